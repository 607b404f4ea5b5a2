"""scikit-learn's digits at 32 x 32: the embedded default, everything in a few minutes on a CPU.

    python -m delt_jax.main --config=configs/digits.py --workdir=runs/digits

Arguments: `ipc` (10), `method` (delt | early_only | cda | sre2l | rded | selected | random), `smoke`.
"""

from configs import base, presets


def get_config(arg=None):
    """DELT on the digits; nothing to download."""
    arg = base.parse_arg(arg, ipc=10, method="delt", smoke=False)
    c = base.get_base()
    c.ipc = arg.ipc
    c.data.name = "digits"
    c.teacher.arch = "conv3_w32"
    squeeze = c.teacher.squeeze
    squeeze.epochs = 6
    squeeze.batch_size = 64
    squeeze.learning_rate = 0.05
    squeeze.warmup_epochs = 1.0
    squeeze.pad = 2
    squeeze.flip = False  # a mirrored digit is another sign
    c.synthesis.iterations = 400
    c.synthesis.round_iterations = 50
    c.synthesis.flip = 0.0
    c.synthesis.log_every = 25
    c.distilled.format = "png"
    c.distilled.rounding = "nearest"
    c.evaluate.epochs = (
        20  # longer, and students of any hundred real digits come close to the teacher
    )
    c.evaluate.eval_every = 5
    c.evaluate.flip = 0.0
    c.evaluate.randaugment_magnitude = 4.0
    c.evaluate.randaugment_ops = 1
    c.evaluate.min_scale = 0.5
    if arg.smoke:
        base.shrink(c)
    presets.choose(c, arg.method)
    return c
