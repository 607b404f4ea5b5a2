"""ImageNet-100 (a hundred classes of ImageNet, 224 px) with the paper's settings (arXiv 2411.19946, table 1).

Expected (paper, mean of three seeds, ResNet-18 teacher and student): 28.2 / 67.9 / 75.1 % at IPC 10 / 50 / 100;
ConvNet-6 (at 128 px: `--config.data.image_size=128`): 24.7 / 51.9 / 61.5 %.
Hardware: a GPU or TPU; synthesis is a tenth of ImageNet-1K's, which took the authors 17.6 h on one RTX 4090 at IPC 50. `--dry-run` estimates any machine.

    python -m delt_jax.main --config=configs/imagenet100.py:ipc=50,source=/data/imagenet100 --workdir=runs/imagenet100

Several lists of a hundred classes go by this name: the folders of the source say which it is, and figures compare only within one.

Arguments: `ipc` (50), `source` (folder with train/ and val/), `teacher` (resnet18), `weights` (file, address or teacher/ of another run;
default: trained here), `statistics` (of the weights), `method` (a name of configs/presets.py: delt | early_only | cda | sre2l | rded | selected | random), `smoke`.
"""

from configs import presets


def get_config(arg=None):
    """DELT on ImageNet-100."""
    arg = presets.parse_arg(arg, ipc=50, statistics="auto")
    # The smoke run on digits is for a laptop, where ResNet-18 would take its time.
    teacher = "cifar_resnet20" if arg.smoke and not arg.source else "resnet18"
    c = presets.begin(arg, "imagenet100", teacher)
    # About 127,000 images: the recipe of ImageNet-1K, with stronger views.
    squeeze = c.teacher.squeeze
    squeeze.epochs = 90
    squeeze.batch_size = 256
    squeeze.learning_rate = 0.1
    squeeze.weight_decay = 5e-4
    squeeze.warmup_epochs = 5.0
    squeeze.crop = "resized"
    squeeze.min_scale = 0.25
    squeeze.cutmix_probability = 0.5
    squeeze.stored_side = 256
    return presets.finish(c, arg, constant_iterations=3000)
