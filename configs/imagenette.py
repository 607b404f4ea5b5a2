"""ImageNette (ten classes of ImageNet, 224 px) with the paper's settings (arXiv 2411.19946, table 1).

Expected (paper, mean of three seeds, ResNet-18 teacher and student): 24.1 / 66.0 / 88.2 % at IPC 1 / 10 / 50;
ConvNet-5: 29.8 / 51.7 / 84.5 % (at 128 px: `--config.data.image_size=128`).
Hardware: a GPU; two CPU cores do some 29 image-iterations/s of ResNet-18, two and a half hours at IPC 10. `--dry-run` estimates any machine.

    python -m delt_jax.main --config=configs/imagenette.py:ipc=10,source=data/imagenette2 --workdir=runs/imagenette

Arguments: `ipc` (10), `source` (folder with train/ and val/, or tfds:imagenette/full-size-v2), `teacher` (resnet18), `weights`
(file, address or teacher/ of another run; default: trained here), `statistics` (of the weights), `method` (a name of
configs/presets.py: delt | early_only | cda | sre2l | rded | selected | random), `published`, `smoke`.
"""

from configs import presets


def get_config(arg=None):
    """DELT on ImageNette."""
    arg = presets.parse_arg(arg, ipc=10, statistics="auto", published=False)
    # The smoke run on digits is for a laptop, where ResNet-18 would take its time.
    teacher = "cifar_resnet20" if arg.smoke and not arg.source else "resnet18"
    c = presets.begin(arg, "imagenette", teacher)
    squeeze = (
        c.teacher.squeeze
    )  # 9,469 images: many short epochs of small batches, and strong views
    squeeze.epochs = 80
    squeeze.batch_size = 64
    squeeze.learning_rate = 0.05
    squeeze.weight_decay = 5e-4
    squeeze.warmup_epochs = 5.0
    squeeze.crop = "resized"
    squeeze.min_scale = 0.35
    squeeze.stored_side = 256
    squeeze.cutmix_probability = 0.5
    if c.teacher.arch.startswith("conv"):
        presets.convnet_teacher(c)
    return presets.finish(c, arg, constant_iterations=1000)
