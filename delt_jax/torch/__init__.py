"""The PyTorch side, without JAX: distilled images and stored labels, and a student to train.

python -m delt_jax.torch --images=runs/x/distilled --labels=runs/x/labels --test=FOLDER
"""

from delt_jax.torch.dataset import DistilledSet

__all__ = ["DistilledSet"]
