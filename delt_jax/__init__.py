"""DELT in JAX: diversity-driven EarlyLate training for data set distillation (arXiv 2411.19946).

The Python API is here: `delt_jax.load_data`, `delt_jax.synthesize` and so on; see `delt_jax.api`.
Importing this package imports none of it, nor JAX: that comes with the first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delt_jax.api import (
        Advance,
        Distilled,
        Evaluation,
        Images,
        InputError,
        Network,
        Ranking,
        evaluate,
        features,
        load_data,
        load_distilled,
        load_teacher,
        options,
        rank,
        save_teacher,
        synthesize,
        train_teacher,
    )

__version__ = "0.1.0"

__all__ = [
    "Advance",
    "Distilled",
    "Evaluation",
    "Images",
    "InputError",
    "Network",
    "Ranking",
    "evaluate",
    "features",
    "load_data",
    "load_distilled",
    "load_teacher",
    "options",
    "rank",
    "save_teacher",
    "synthesize",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'delt_jax' has no attribute {name!r}")
    from delt_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
