"""A data set of one's own: classes, image size, statistics and recipe come from its images.

    python -m delt_jax.main --config=configs/custom.py:source=/data/birds,ipc=10 --workdir=runs/birds

Arguments: `source` (a folder with train/ and test/ or val/ of class folders; TRAINDIR:TESTDIR, two such folders; a folder of Parquet
files; an .npz; tfds:NAME[:DIR]), `ipc` (10), `size` (side in pixels; default: the largest of 224, 128, 64, 32 that half of the images
reach), `teacher` (resnet18; up to 64 px resnet18_small, under smoke cifar_resnet20), `weights` (file, address or teacher/ of another
run; default: trained here, as for some ten thousand images), `statistics` (of the weights), `flip` (true; false where a mirrored image
is wrong, as text is), `name` (custom), `method` (delt | early_only | cda | sre2l | rded | selected | random), `smoke`.

Statistics are measured on 2,000 training images, once: they are kept in ~/.cache/delt_jax.
"""

from configs import base, presets
from delt_jax.data import sources
from delt_jax.errors import InputError


def get_config(arg=None):
    """DELT on the images of `source`."""
    arg = presets.parse_arg(
        arg,
        ipc=10,
        size=0,
        statistics="auto",
        flip=True,
        name="custom",
    )
    c = base.get_base()
    c.ipc = arg.ipc
    if not arg.source and not arg.smoke:
        raise InputError("config argument source: got none, expected the path of a data set")
    c.data.name, c.data.source = (arg.name, arg.source) if arg.source else ("digits", "")
    spec = sources.describe(c.data.name, c.data.source, arg.size or None)
    c.data.image_size = spec.image_size
    is_small = spec.image_size <= 64
    small_teacher = "cifar_resnet20" if arg.smoke else "resnet18_small"
    c.teacher.arch = arg.teacher or (small_teacher if is_small else "resnet18")
    c.teacher.weights = arg.weights
    c.teacher.statistics = arg.statistics
    squeeze = c.teacher.squeeze
    squeeze.epochs = 80
    squeeze.batch_size = 128 if is_small else 64
    squeeze.learning_rate = 0.1 if is_small else 0.05
    squeeze.weight_decay = 5e-4
    squeeze.warmup_epochs = 5.0
    squeeze.cutmix_probability = 0.5
    if is_small:
        squeeze.pad = spec.image_size // 8
    else:
        squeeze.crop = "resized"
        squeeze.min_scale = 0.35
        squeeze.stored_side = spec.image_size // 7 * 8
    if c.teacher.arch.startswith("conv"):
        presets.convnet_teacher(c)
    if not arg.flip:
        squeeze.flip = False
        c.synthesis.flip = c.evaluate.flip = 0.0
    magnitude, c.evaluate.randaugment_ops = spec.randaugment
    c.evaluate.randaugment_magnitude = float(magnitude)
    return presets.finish(c, arg, constant_iterations=1000)
