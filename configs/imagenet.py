"""ImageNet-1K with the paper's settings (arXiv 2411.19946, table 1).

Expected (paper, mean of three seeds, ResNet-18 teacher and student): 46.1 / 59.2 / 62.4 % at IPC 10 / 50 / 100;
synthesis at IPC 50 took the authors 17.6 h on one RTX 4090; `--dry-run` estimates other machines.

    python -m delt_jax.main --config=configs/imagenet.py:ipc=50,source=/data/imagenet,weights=torchvision \
      --workdir=runs/imagenet

Arguments: `ipc` (50), `source` (folder with train/ and val/, or tfds:imagenet2012), `teacher` (resnet18),
`weights` (torchvision: its V1 file, downloaded once; torchvision:V2; or a file), `method` (a name of configs/presets.py: delt | early_only | cda | sre2l | rded | selected | random), `smoke`.
"""

from configs import presets


def get_config(arg=None):
    """DELT on ImageNet-1K."""
    arg = presets.parse_arg(arg, ipc=50)
    # The smoke run on digits is for a laptop, where ResNet-18 would take its time.
    teacher = "cifar_resnet20" if arg.smoke and not arg.source else "resnet18"
    c = presets.begin(arg, "imagenet1k", teacher)
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
    return presets.finish(c, arg, constant_iterations=3000)
