"""Tiny-ImageNet (200 classes, 64 px) with the paper's settings (arXiv 2411.19946, table 1).

Expected (paper, mean of three seeds, ResNet-18 teacher and student): 9.3 / 43.0 / 55.7 % at IPC 1 / 10 / 50;
ConvNet-4: 12.4 / 40.0 / 48.6 %. Synthesis at IPC 50 took the authors 3.4 h on one RTX 4090 (constant iterations: 5.0 h);
`--dry-run` estimates other machines.

    python -m delt_jax.main --config=configs/tiny_imagenet.py:ipc=50,source=data/tiny-imagenet-200 --workdir=runs/tiny

Arguments: `ipc` (50), `source` (folder with train/ and val/ by class, or .npz), `teacher` (resnet18_small), `weights`
(file, address or teacher/ of another run; default: trained here), `statistics` (of the weights), `method` (a name of
configs/presets.py: delt | early_only | cda | sre2l | rded | selected | random), `published`, `smoke`.
"""

from configs import presets


def get_config(arg=None):
    """DELT on Tiny-ImageNet."""
    arg = presets.parse_arg(arg, ipc=50, statistics="auto", published=False)
    c = presets.begin_small(arg, "tiny-imagenet")
    squeeze = c.teacher.squeeze  # ResNet-18 with the small-image stem
    squeeze.epochs = 60
    squeeze.batch_size = 256
    squeeze.learning_rate = 0.2
    squeeze.weight_decay = 5e-4
    squeeze.warmup_epochs = 5.0
    squeeze.pad = 8
    squeeze.cutmix_probability = 0.5
    if c.teacher.arch.startswith("conv"):
        presets.convnet_teacher(c)
    c.evaluate.randaugment_magnitude = 4.0
    c.evaluate.randaugment_ops = 3
    return presets.finish(c, arg, constant_iterations=500)
