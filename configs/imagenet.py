"""ImageNet-1K with the paper's settings (arXiv 2411.19946, table 1).

Expected (paper, mean of three seeds, ResNet-18 teacher and student): 46.1 / 59.2 / 62.4 % at IPC 10 / 50 / 100;
synthesis at IPC 50 took the authors 17.6 h on one RTX 4090.

    python -m delt_jax.main --config=configs/imagenet.py:ipc=50,source=/data/imagenet,weights=torchvision \
      --workdir=runs/imagenet

Arguments: `ipc` (50), `source` (folder with train/ and val/, or tfds:imagenet2012), `teacher` (resnet18),
`weights` (torchvision: its V1 file, downloaded once; torchvision:V2; or a file), `method` (delt | constant, all images from the start | rded; `constant` alone is short for the second), `smoke`.
"""

from configs import base, presets


def get_config(arg=None):
    """DELT on ImageNet-1K."""
    arg = base.parse_arg(
        arg,
        ipc=50,
        source="",
        teacher="",
        weights="",
        method="delt",
        constant=False,
        smoke=False,
    )
    c = base.get_base()
    c.ipc = arg.ipc
    c.data.name = "imagenet1k"
    c.data.source = arg.source
    # The smoke run on digits is for a laptop, where ResNet-18 would take its time.
    c.teacher.arch = arg.teacher or (
        "cifar_resnet20" if arg.smoke and not arg.source else "resnet18"
    )
    c.teacher.weights = arg.weights
    c.teacher.statistics = "imagenet"
    # torchvision's V1 recipe (references/classification), with a cosine and Nesterov.
    squeeze = c.teacher.squeeze
    squeeze.epochs = 90
    squeeze.batch_size = 256
    squeeze.learning_rate = 0.1
    squeeze.weight_decay = 1e-4
    squeeze.warmup_epochs = 5.0
    squeeze.crop = "resized"
    squeeze.min_scale = 0.08
    squeeze.stored_side = 256
    if arg.ipc == 1:  # the paper's IPC 1 keeps iterations constant
        presets.constant(c)
        c.synthesis.iterations = 3000
    if arg.smoke:
        base.shrink(c)
    presets.choose(c, "constant" if arg.constant else arg.method)
    return c
