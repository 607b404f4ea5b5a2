"""CIFAR-100 with the paper's settings for CIFAR-10, which the paper itself does not run on it.

There are no numbers of the paper to expect; SRe2L's ResNet-18 teacher has 78.7 % (VILA-Lab/SRe2L at 8d00cba).
Hardware: a GPU for ResNet-18. `--dry-run` estimates any machine.

    python -m delt_jax.main --config=configs/cifar100.py:ipc=10,source=data/cifar100 --workdir=runs/cifar100

and with classes that arrive in ten steps:

    python -m delt_jax.sweep --sweep=configs/sweeps.py:continual,data=cifar100,ipc=50,steps=10,source=data/cifar100 --workdir=runs/continual

Arguments: `ipc` (10), `source` (folder, .npz or tfds:NAME; default TFDS's cifar100), `teacher` (resnet18_small; cifar_resnet20 under
smoke), `weights` (file), `statistics` (of the weights: auto | dataset | imagenet | mean/std), `method` (a name of configs/presets.py:
delt | early_only | cda | sre2l | rded | selected | random), `published` (the published code's mixed normalisations), `smoke`.
"""

from configs import presets


def get_config(arg=None):
    """DELT on CIFAR-100."""
    arg = presets.parse_arg(arg, ipc=10, statistics="auto", published=False)
    c = presets.begin_small(arg, "cifar100")
    squeeze = c.teacher.squeeze  # as SRe2L's teacher, but Nesterov's momentum and a warm-up
    squeeze.epochs = 200
    squeeze.batch_size = 128
    squeeze.learning_rate = 0.1
    squeeze.weight_decay = 5e-4
    if c.teacher.arch.startswith("conv"):
        presets.convnet_teacher(c)
    c.evaluate.randaugment_magnitude = 5.0
    c.evaluate.randaugment_ops = 4
    return presets.finish(c, arg, constant_iterations=2000)
