"""Numbers and findings in words, the same everywhere, and never more than the numbers show."""

from collections.abc import Sequence
from typing import Any

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def verdict(results_of_student: dict[str, Any], comparisons: Sequence[dict[str, Any]]) -> list[str]:
    """Says in words, without flattery, what the distilled images are worth to one student.

    Args:
      results_of_student: set -> summary.
      comparisons: those of this student.

    Returns:
      What was found, and what of it is shown; nothing where there is nothing to compare.
    """
    if "distilled" not in results_of_student or not comparisons:
        return []
    found = [
        f"{abs(c['difference']):.1f} points {'above' if c['difference'] > 0 else 'below'} "
        f"{set_label(c['against'])}"
        if round(abs(c["difference"]), 1)
        else f"level with {set_label(c['against'])}"
        for c in comparisons
    ]
    verdicts = {
        ("better than", "and"): [c for c in comparisons if c["clear"] and c["difference"] > 0],
        ("worse than", "and"): [c for c in comparisons if c["clear"] and c["difference"] < 0],
        ("not shown to differ from", "or"): [
            c for c in comparisons if c["low"] is not None and not c["clear"]
        ],
    }
    parts = [
        f"{words} {_and([set_label(c['against']) for c in chosen], last)}"
        for (words, last), chosen in verdicts.items()
        if chosen
    ]
    shown = []
    if parts:
        seeds = results_of_student["distilled"]["n"]
        shown.append(f"With {seeds} seeds, the distilled images are {_and(parts)}.")
    lone = [set_label(c["against"]) for c in comparisons if c["low"] is None]
    if lone:
        shown.append(f"Against {_and(lone)}, one seed tells nothing from noise.")
    return [f"That is {_and(found)}.", " ".join(shown)]


def diversity_verdict(cosines: dict[str, float]) -> str:
    """Says of which sets the distilled images are more, and of which less diverse.

    Args:
      cosines: set -> intra-class cosine.
    """
    if "distilled" not in cosines:
        return ""
    ours = round(cosines["distilled"], 3)
    others = {name: round(value, 3) for name, value in cosines.items() if name != "distilled"}
    kinds = {
        "less diverse than": [name for name, value in others.items() if value < ours],
        "as diverse as": [name for name, value in others.items() if value == ours],
        "more diverse than": [name for name, value in others.items() if value > ours],
    }
    parts = [
        f"{words} {_and([set_label(name) for name in names])}"
        for words, names in kinds.items()
        if names
    ]
    return f"By this measure the distilled images are {_and(parts)}." if parts else ""


def _and(parts: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a true minus among them."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def set_label(name: str) -> str:
    """A set's name in a sentence."""
    return {
        "distilled": "the distilled images",
        "selected": "the selected real images",
        "random": "random real images",
        "real": "the real training images",
    }.get(name, f"the set {name}")


def set_short(name: str) -> str:
    """A set's name in a table."""
    return {
        "selected": "selected real",
        "random": "random real",
        "real": "training images",
    }.get(name, name)


def points(mean: float | None, std: float | None = None, digits: int = 1) -> str:
    """`35.4 ± 1.2`, or the mean alone where there is no deviation."""
    if mean is None:
        return MISSING
    text = f"{mean:.{digits}f}"
    return text if std is None else f"{text} ± {std:.{digits}f}"


def percent(share: float | None) -> str:
    """`36.3 %` of .363."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def count(value: int | None) -> str:
    """A count with separators between the thousands."""
    return MISSING if value is None else f"{value:,}"


def significant(value: float | None, digits: int = 4) -> str:
    """So many significant digits."""
    return MISSING if value is None else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: `3.2 s`, `4 min 05 s`, `2 h 11 min`."""
    if seconds is None:
        return "not measured"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min"
