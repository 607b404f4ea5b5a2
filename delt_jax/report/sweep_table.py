"""The table of a sweep: its rows, as Markdown and as CSV."""

from typing import Any

from delt_jax.report.orderings import sentence

COLUMNS = (
    *("point", "student", "top1_mean", "top1_std", "n", "best_mean", "best_std"),
    *("hard_labels_mean", "hard_labels_std", "cosine", "image_iterations", "seconds"),
    *("paper", "paper_source", "difference"),
)
_HEADS = (
    *("point", "student", "top-1", "best", "hard labels", "cosine", "image-iterations"),
    "seconds of synthesis",
)
_PAPER_HEADS = ("paper", "difference")  # where the paper has a number for any row


def table_rows(sweep: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """`(point, row)` for every student of every point of sweep.json."""
    return [(point, row) for point in sweep["points"] for row in point["rows"]]


def continual_rows(sweep: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Student -> point -> accuracy after each step of continual learning, where it was measured."""
    students: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for point, row in table_rows(sweep):
        if row["continual"]:
            students.setdefault(row["student"], {})[point["name"]] = row["continual"]
    return students


def several_students(sweep: dict[str, Any]) -> bool:
    """Whether any point has more than one, so that a row needs its student beside its point."""
    return any(len(point["rows"]) > 1 for point in sweep["points"])


def has_paper(sweep: dict[str, Any]) -> bool:
    """Whether the paper has a number for any row."""
    return any(row["paper"] for _, row in table_rows(sweep))


def cells(pair: tuple[dict[str, Any], dict[str, Any]]) -> list[Any]:
    """The values of `COLUMNS`, unrounded; None where something was not measured."""
    point, row = pair
    hard, paper = row["hard_labels"] or {}, row["paper"] or {}
    return [
        *(point["name"], row["student"], row["top1_mean"], row["top1_std"], row["n"]),
        *(row["best_mean"], row["best_std"], hard.get("top1_mean"), hard.get("top1_std")),
        *(point["cosine"], point["image_iterations"], point["seconds"]),
        *(paper.get("top1"), paper.get("source"), row["difference"]),
    ]


def markdown(sweep: dict[str, Any]) -> str:
    """The table and the orderings of sweep.json as Markdown."""
    is_published = has_paper(sweep)
    heads = _HEADS + _PAPER_HEADS * is_published
    lines = [
        f"# {sweep['title']}",
        "",
        "Top-1 in %, mean +- sample deviation over (so many) seeds, after the last epoch; the best "
        "epoch, chosen on the test set, beside it. Cosine of images to their class's centroid: "
        "lower is more diverse." + " Difference: here less the paper." * is_published,
        "",
        _line(heads),
        _line(["---"] * len(heads)),
    ]
    for point, row in table_rows(sweep):
        hard, paper = row["hard_labels"], row["paper"]
        top1 = _mean(row["top1_mean"], row["top1_std"])
        texts = [
            point["name"] if point["state"] == "done" else f"{point['name']} (not done)",
            row["student"],
            f"{top1} ({row['n']})" if row["n"] else "-",
            _mean(row["best_mean"], row["best_std"]),
            _mean(hard["top1_mean"], hard["top1_std"]) if hard else "-",
            "-" if point["cosine"] is None else f"{point['cosine']:.3f}",
            _count(point["image_iterations"]),
            _count(point["seconds"]),
            f"{paper['top1']:g} ({paper['source']})" if paper else "-",
            "-" if row["difference"] is None else f"{row['difference']:+.1f}",
        ]
        lines.append(_line(texts[: len(heads)]))
    for student, points in continual_rows(sweep).items():
        counts = sorted({step["classes"] for steps in points.values() for step in steps})
        lines += ["", _line((f"{student}, classes seen", *counts))]
        lines.append(_line(["---"] * (1 + len(counts))))
        for name, steps in points.items():
            found = {step["classes"]: _mean(step["top1_mean"], step["top1_std"]) for step in steps}
            lines.append(_line((name, *(found.get(count, "-") for count in counts))))
    if sweep["claims"]:
        lines += ["", _line(("ordering", "here", "difference", "95 % interval", "who says so"))]
        lines.append(_line(["---"] * 5))
    for claim in sweep["claims"]:
        digits = 3 if claim["measure"] == "cosine" else 1
        found, interval = "-", "-"
        if claim["difference"] is not None:
            found = f"{claim['difference']:+.{digits}f}"
        if claim["low"] is not None:
            interval = f"{claim['low']:+.{digits}f} to {claim['high']:+.{digits}f}"
        words = sentence(claim, several_students(sweep))
        lines.append(_line((words, claim["verdict"], found, interval, claim["source"])))
    return "\n".join(lines) + "\n"


def _line(texts: Any) -> str:
    return f"| {' | '.join(str(text).replace('|', chr(92) + '|') for text in texts)} |"


def _mean(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.1f}" if std is None else f"{mean:.1f} +- {std:.1f}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
