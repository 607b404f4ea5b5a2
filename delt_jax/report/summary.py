"""The table that a run ends with, on the terminal."""

from collections.abc import Sequence
from typing import Any

from delt_jax.overrides import named
from delt_jax.report.wording import duration
from delt_jax.runtime.workdir import WorkDir


def summary_table(results: dict[str, Any]) -> str:
    """Lays out results.json as a few aligned lines.

    Args:
      results: what `delt_jax.report.results.summarise` returns.
    """
    data, teacher, cost = results["data"], results["teacher"], results["cost"]
    method = named(results["method"], results["method_changes"])
    lines = [
        f"{method} on {data['name']}, {results['ipc']} images per class, {data['classes']} classes",
        f"teacher {teacher['arch'] or 'unknown'}: top-1 {_percent(teacher['top1'])}",
        "",
    ]
    students = results["students"] | {
        f"{name}, {kind} labels": sets
        for kind in ("hard", "stored")
        for name, sets in results.get(f"{kind}_labels", {}).items()
    }
    rows = [("student", "trained on", "top-1 last", "best", "n", "intra-class cosine")]
    for student, sets in students.items():
        for name, summary in sets.items():
            rows.append(
                (
                    student,
                    name,
                    _percent(summary["top1_mean"], summary["top1_std"]),
                    _percent(summary["best_mean"], summary["best_std"]),
                    str(summary["n"]),
                    _cosine(results["diversity"].get(name)),
                )
            )
    evaluated = {name for sets in students.values() for name in sets}
    for name, value in results["diversity"].items():
        if name not in evaluated:
            rows.append(("-", name, "-", "-", "-", _cosine(value)))
    lines += [*_aligned(rows), ""] if len(rows) > 1 else ["no student was evaluated", ""]
    if results["comparisons"]:
        lines += [*map(_comparison, results["comparisons"]), ""]
    if cost and cost["iterations"] == 0:
        lines.append("no synthesis: the images are real ones as they were selected")
    elif cost:
        done, constant = cost["image_iterations"], cost["constant"]
        text = f"image-iterations {_count(done)} of {_count(constant)} constant"
        if cost["saved_fraction"] is not None:
            text += f" ({100 * cost['saved_fraction']:.1f} % saved)"
        lines.append(text)
        if done is not None and done != cost["promised"]:
            lines.append(f"  but the schedule promised {_count(cost['promised'])}")
        device = f" on {cost['device']}" if cost["device"] else ""
        lines.append(f"synthesis took {duration(cost['seconds'])}{device}")
    return "\n".join(lines).rstrip()


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def _comparison(row: dict[str, Any]) -> str:
    """Says in a line how the distilled images compare with another set."""
    labels = "" if row.get("labels", "soft") == "soft" else f", {row['labels']} labels"
    line = (
        f"{row['student']}{labels}: distilled less {row['against']} {row['difference']:+.1f} points"
    )
    if row["low"] is None:
        return f"{line}; one seed tells nothing from noise"
    found = "not shown to differ"
    if row["clear"]:
        found = "better" if row["difference"] > 0 else "worse"
    return f"{line}, 95 % interval {row['low']:+.1f} to {row['high']:+.1f}: {found}"


def _percent(mean: float | None, std: float | None = None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.1f} %" if std is None else f"{mean:.1f} +- {std:.1f} %"


def _cosine(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def closing(workdir: WorkDir) -> str:
    """What a run says last: its table, where there are results, and where everything lies."""
    lines = []
    if workdir.results_json.exists():
        lines += ["", summary_table(workdir.read_json(workdir.results_json))]
    places = {
        "images": workdir.distilled / "train",
        "results": workdir.results_json,
        "report": workdir.report_html,
    }
    lines += [f"{label:8} {path}" for label, path in places.items() if path.exists()]
    return "\n".join(lines)
