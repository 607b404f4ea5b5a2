"""The README.md of an export: what it is, how good, how to load it, whose images they were."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import delt_jax
from delt_jax.data.specs import find_spec
from delt_jax.errors import InputError
from delt_jax.export.distilled_set import DistilledSet
from delt_jax.overrides import named

_UNKNOWN_TERMS = (
    "delt_jax does not know under which terms these data may be used: say it here before handing "
    "the set on."
)
# Where an address is cut by a comment, which nobody sees: renderers make links of bare ones.
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_SETTINGS = (  # of the manifest's `synthesis`
    "iterations",
    "round_iterations",
    "early_late",
    "learning_rate",
    "bn_weight",
    "class_batch",
    "layout",
    "crop_curriculum",
)


def write_card(source: DistilledSet, format: str, loading: str) -> str:  # noqa: A002
    """Returns the card as Markdown.

    Args:
      source: what was exported.
      format: its name.
      loading: Python that loads it, run from the folder of the export.
    """
    header, classes = source.header, len(source.class_names)
    data = header.get("data", "an unnamed data set")
    per_class = len(source.records) / classes
    size = f"{per_class:g} images per class" if per_class % 1 == 0 else "images"
    settings = header.get("synthesis", {})
    facts = {
        "images": f"{len(source.records)}, of {classes} classes",
        "method": _method(header),
        "teacher": _teacher(header.get("teacher", {})),
        "normalised with": _statistics(header),
        "settings": ", ".join(f"{n} {settings[n]}" for n in _SETTINGS if n in settings),
        "made by": f"delt_jax {delt_jax.__version__}, format {format}",
    }
    spec = find_spec(data)
    lines = [
        f"# {_line(data)}, distilled: {size}",
        "",
        "Images to train networks with in place of the large data set that they stand for, made by "
        "data set distillation with delt_jax (DELT, arXiv 2411.19946, unless the method below is "
        "another).",
        "",
        *_table([("", ""), *((name, value) for name, value in facts.items() if value)]),
        "",
        "## Load it",
        "",
        "```python",
        loading.strip("\n"),
        "```",
        "",
        *_accuracies(source),
        "## Terms of the source data",
        "",
        (spec.terms if spec else "") or _UNKNOWN_TERMS,
        "",
        "## Check it",
        "",
        "`sha256sum -c SHA256SUMS` in this folder, or `python -m delt_jax.export --verify FOLDER`. "
        "`manifest.json` has the class, join round, iterations and source image of every image.",
        "",
    ]
    return "\n".join(lines)


def _accuracies(source: DistilledSet) -> list[str]:
    results = _results(source)
    rows = []
    for key, learned in (
        ("students", "the teacher's, online"),
        ("stored_labels", "the teacher's, stored"),
        ("hard_labels", "the classes"),
    ):
        for student, sets in _mapping(results.get(key)).items():
            for name, summary in _mapping(sets).items():
                summary = _mapping(summary)
                mean, std = (_percent(summary.get(f"top1_{key}")) for key in ("mean", "std"))
                if not mean:
                    continue
                spread = f" +- {std}" if std else ""
                lengths = (summary.get("n"), summary.get("epochs"))
                rows.append((student, name, learned, f"{mean}{spread}", *lengths))
    if not rows:
        return []
    head = ("student", "trained on", "labels", "top-1 in %", "seeds", "epochs")
    return [
        "## Accuracies",
        "",
        "Of fresh students on the real test images after the last epoch, mean and sample deviation "
        "over seeds, by the run that made the images; `distilled` is this set, the others are its "
        "controls of real images.",
        "",
        *_table([head, *rows]),
        "",
    ]


def _results(source: DistilledSet) -> dict[str, Any]:
    if source.workdir is None or not source.workdir.results_json.is_file():
        return {}
    try:
        return _mapping(source.workdir.read_json(source.workdir.results_json))
    except InputError:  # the accuracies are an extra: a damaged summary keeps nobody from exporting
        return {}


def _method(header: Mapping[str, Any]) -> str:
    method = header.get("method")
    return named(method, header.get("method_changes")) if method else ""


def _teacher(teacher: Mapping[str, Any]) -> str:
    top1 = _percent(teacher.get("top1"))
    accuracy = f", top-1 {top1} %" if top1 else ""
    return f"{teacher['arch']}{accuracy}" if "arch" in teacher else ""


def _percent(value: Any) -> str:
    """One decimal of it; "" for what is no accuracy."""
    return f"{value:.1f}" if type(value) in (int, float) and 0 <= value <= 100 else ""


def _statistics(header: Mapping[str, Any]) -> str:
    if not {"mean", "std"} <= header.keys():
        return ""
    mean, std = ([round(float(v), 4) for v in header[name]] for name in ("mean", "std"))
    return f"mean {mean}, std {std}, of pixels in [0, 1]"


def _table(rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(_line(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return lines


def _line(value: Any) -> str:
    """In one line and one cell, as text: no tag, and no link to who knows where."""
    text = " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())
    text = re.sub(r"[\\|`]|(?<=\])\(", r"\\\g<0>", html.escape(text, quote=False))
    return _ADDRESS.sub("<!-- -->", text)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
