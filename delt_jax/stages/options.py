"""Every option of the config and the values that it takes by itself; what depends on others is not.

`delt_jax.stages.preflight` checks a whole config; a stage checks its section, for it can be called
alone.
"""

import difflib
from collections.abc import Iterator
from typing import Any

from delt_jax.core import data_parallel, programs
from delt_jax.core.ranking import MODES
from delt_jax.core.schedule import CURRICULA, LAYOUTS
from delt_jax.errors import InputError
from delt_jax.export import formats, label_coding
from delt_jax.export.image_folder import FORMATS, NAMINGS, ROUNDINGS
from delt_jax.models import pretrained, registry
from delt_jax.stages.cropped_images import ARGMAX
from delt_jax.stages.option_kinds import (
    Flag,
    Kind,
    Number,
    Several,
    Statistics,
    Text,
    Word,
    shown,
)
from delt_jax.stages.training_sets import SETS

# Limits that no run of today comes near. Beyond them are slips of the finger, and numbers that
# 32-bit indices, the memory of a host or float32 do not hold.
_MANY = 10_000_000
_SIDE = 4096  # pixels
_LARGE = 1e38


def _count(least: int, most: int = _MANY) -> Number:
    return Number(least, most, whole=True)


def _rate(also: tuple[float, str] | None = None) -> Number:
    return Number(0, _LARGE, also=also)


def _of_export(option: formats.Option) -> Kind:
    if option.limits:
        return _count(*option.limits)
    if option.words:
        return Word(option.words)
    return Statistics(("teacher", *_NUMBERS_TOO))


def _check_path(path: str) -> None:
    """Refuses an address before config.json has it, with whatever it holds."""
    if "://" in path:
        raise InputError(
            f"an address that begins with {path.partition('://')[0][:20]}://; expected a path: "
            "mount or copy what lies elsewhere"
        )


def _check_source(source: str) -> None:
    if not source.startswith("tfds:"):
        _check_path(source)
    elif "://" in source and not {"?", ";", "#"}.isdisjoint(source):
        raise InputError(
            "a folder with parameters, which config.json would keep; expected tfds:NAME:DIR"
        )


_SEED = _count(0, 2**32 - 1)  # what NumPy's legacy generators take
_SHARE = Number(0, 1)
_SOME_SHARE = Number(1e-6, 1)
_DECAY = Number(0, 1, below=True)
_DIVISOR = Number(1e-6, 1e6)  # neither it nor its square is 0 or infinite in float32
_POSITIVE = Number(1e-30, _LARGE)  # as float32 too
_STATISTICS = Word(("teacher", "dataset", "imagenet"))
_NUMBERS_TOO = ("dataset", "imagenet")
_DTYPE = Word(programs.COMPUTE_DTYPES)

OPTIONS: dict[str, Kind] = {
    "method": Text("the name of a method", required=True),  # of configs/, which has checked it
    "method_changes": Several(Text("OPTION=VALUE", required=True), required=False),
    "seed": _SEED,
    "ipc": _count(1, 1_000_000),
    "deterministic": Flag(),
    "checkpoint_minutes": _rate(),
    "data.name": Text("the name of a data set", required=True, check=_check_path),
    "data.source": Text("a path or tfds:NAME[:DIR]", check=_check_source),
    "data.image_size": _count(0, _SIDE),
    "data.images_per_class": _count(0),
    "data.strict": Flag(),
    "data.workers": _count(-1, 1024),
    "teacher.arch": Word(registry.NAMES),
    "teacher.weights": Text(
        "a file, a folder, an https:// address or a publisher", check=pretrained.check_address
    ),
    "teacher.weights_key": Text("the name of a set of weights in the file"),
    "teacher.classes": Text("a data set, a file, names or rows", check=_check_path),
    "teacher.statistics": Statistics(("auto", *_NUMBERS_TOO)),
    "teacher.squeeze.epochs": _count(1),
    "teacher.squeeze.batch_size": _count(1),
    "teacher.squeeze.learning_rate": _rate(),
    "teacher.squeeze.momentum": _DECAY,
    "teacher.squeeze.weight_decay": _rate(),
    "teacher.squeeze.label_smoothing": _SHARE,
    "teacher.squeeze.warmup_epochs": _rate(),
    "teacher.squeeze.crop": Word(("pad", "resized")),
    "teacher.squeeze.pad": _count(0, _SIDE),
    "teacher.squeeze.min_scale": _SOME_SHARE,
    "teacher.squeeze.stored_side": _count(0, _SIDE),
    "teacher.squeeze.flip": Flag(),
    "teacher.squeeze.cutmix": _rate(),
    "teacher.squeeze.cutmix_probability": _SHARE,
    "teacher.squeeze.average_decay": _DECAY,
    "teacher.squeeze.compute_dtype": _DTYPE,
    "select.mode": Word(MODES),
    "select.crops": _count(0, 100_000),
    "select.factor": _count(1, _SIDE),
    "select.images_per_class": _count(0),
    "select.ranking": Text("the path of a ranking.csv", check=_check_path),
    "select.statistics": _STATISTICS,
    "select.batch_size": _count(1),
    "synthesis.initial": Word(("real", "noise")),
    "synthesis.early_late": Flag(),
    "synthesis.iterations": _count(0),
    "synthesis.round_iterations": _count(1),
    "synthesis.min_iterations": _count(0),
    "synthesis.departed_drift": Flag(),
    "synthesis.class_batch": _count(1),
    "synthesis.layout": Word(LAYOUTS),
    "synthesis.learning_rate": _rate(),
    "synthesis.beta1": _DECAY,
    "synthesis.beta2": _DECAY,
    "synthesis.epsilon": _POSITIVE,
    "synthesis.fresh_bias_correction": Flag(),
    "synthesis.bn_weight": _rate(),
    "synthesis.first_bn_multiplier": _rate(),
    "synthesis.crop_curriculum": Word(CURRICULA),
    "synthesis.milestone": _SHARE,
    "synthesis.min_crop": _SOME_SHARE,
    "synthesis.max_crop": _SOME_SHARE,
    "synthesis.flip": _SHARE,
    "synthesis.jitter": _count(0, _SIDE),
    "synthesis.view_per_image": Flag(),
    "synthesis.statistics": _STATISTICS,
    "synthesis.compute_dtype": Word(("float32", "bfloat16")),
    "synthesis.class_batches_per_device": _count(0),
    "synthesis.sliced": Flag(),
    "synthesis.steps_per_call": _count(0),
    "synthesis.log_every": _count(1),
    "distilled.format": Word(FORMATS),
    "distilled.quality": _count(1, 95),
    "distilled.rounding": Word(ROUNDINGS),
    "distilled.naming": Word(NAMINGS),
    "evaluate.students": Several(Word(("teacher", *registry.NAMES))),
    "evaluate.sets": Several(Word(SETS), required=False),  # a control has none but itself
    "evaluate.labels": Several(Word(("soft", "hard", "stored"))),
    "evaluate.seeds": Several(_SEED),
    "evaluate.seeds_at_once": _count(0),
    "evaluate.real_images": _count(0),
    "evaluate.epochs": _count(1),
    "evaluate.batch_size": _count(0),
    "evaluate.optimizer": Word(("adamw", "sgd")),
    "evaluate.momentum": _DECAY,
    "evaluate.learning_rate": _rate(),
    "evaluate.weight_decay": _rate(also=(-1, "the optimizer's own")),
    "evaluate.average_decay": _DECAY,
    "evaluate.temperature": _DIVISOR,
    "evaluate.cosine_stretch": _DIVISOR,
    "evaluate.augment": Flag(),
    "evaluate.randaugment_magnitude": Number(0, 10),
    "evaluate.randaugment_ops": _count(0, 100),
    "evaluate.randaugment_std": _rate(),
    "evaluate.min_scale": _SOME_SHARE,
    "evaluate.flip": _SHARE,
    "evaluate.cutmix": _rate(),
    "evaluate.mixup": _rate(),
    "evaluate.double_bn_update": Flag(),
    "evaluate.statistics": _STATISTICS,
    "evaluate.batch_norm": Word(data_parallel.BATCH_NORMS),
    "evaluate.compute_dtype": _DTYPE,
    "evaluate.eval_every": _count(0),
    "labels.epochs": _count(0),
    "labels.top_k": _count(0),
    "labels.dtype": Word(label_coding.DTYPES),
    "labels.order_seed": _SEED,
    "continual.steps": _count(0),
    "continual.order_seed": _SEED,
    "continual.argmax": Word(ARGMAX),
    "fairness.learning_rates": Several(_POSITIVE),
    "fairness.full_data_top1": Number(0, 100),
    "export.formats": Several(Word(tuple(formats.FORMATS)), required=False),
    "export.directory": Text("the path of a folder", check=_check_path),
    **{f"export.{option.name}": _of_export(option) for option in formats.OPTIONS},
    "report.classes": _count(1),
}


def check(values: Any, section: str = "") -> None:
    """Checks the options of a config, or of one section of it, each by itself.

    Args:
      values: an `ml_collections.ConfigDict`.
      section: where in the config they are, as "teacher.squeeze".

    Raises:
      InputError: for the first option that is wrong, in one line: its dotted path, its value, what
        it may be, and the nearest word or name.
    """
    before = f"{section}." if section else ""
    found = dict(_leaves(values, before))
    known = [path for path in OPTIONS if path.startswith(before)]
    for path in found:
        if path not in OPTIONS:
            near = difflib.get_close_matches(path, known, 1)
            raise InputError(f"{path}: no such option" + (f"; is it {near[0]}?" if near else ""))
    for path in known:
        if path not in found:
            raise InputError(f"{path}: not in the config; expected {OPTIONS[path].expected()}")
        check_one(path, found[path])


def check_one(path: str, value: Any) -> None:
    """Checks one option; raises `InputError` as `check` does."""
    kind = OPTIONS[path]
    if problem := kind.problem(value):
        raise InputError(f"{path}: got {shown(value)}, expected {problem}")
    if isinstance(kind, Text) and kind.check is not None:
        try:
            kind.check(value)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _leaves(values: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{before}{name}"
        if hasattr(value, "items"):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value
