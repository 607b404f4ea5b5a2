"""report.html of a sweep: one file that needs no network; each run's own report is a link away."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import delt_jax
from delt_jax.report import charts, orderings, sweep_charts
from delt_jax.report.colours import join_round_colours
from delt_jax.report.gallery import LOSSLESS_SIDE
from delt_jax.report.page import environment
from delt_jax.report.sweep_table import continual_rows, has_paper, several_students, table_rows


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """One distilled image as a data URI; `side` is of the file that it comes from, in px."""

    class_name: str
    slot: int
    uri: str
    side: int

    @property
    def pixelated(self) -> bool:
        """Whether its pixels should show."""
        return self.side <= LOSSLESS_SIDE


def render(sweep: dict[str, Any], strips: Mapping[str, Sequence[Thumbnail]]) -> str:
    """Returns the report of a sweep as HTML.

    Args:
      sweep: the content of sweep.json.
      strips: by point, a few of its images.
    """
    several = several_students(sweep)
    return (
        environment()
        .get_template("sweep.html.jinja")
        .render(
            sweep=sweep,
            rows=table_rows(sweep),
            done=sum(point["state"] == "done" for point in sweep["points"]),
            several=several,
            is_published=has_paper(sweep),
            findings=findings(sweep["claims"], several),
            sentence=lambda claim: orderings.sentence(claim, several),
            top1=sweep_charts.top1_plot(sweep),
            continual=continual_rows(sweep),
            continual_curves=charts.continual_curves(continual_rows(sweep)),
            cosine=sweep_charts.cosine_plot(sweep),
            costs=sweep_charts.cost_plots(sweep),
            cost_height=sweep_charts.COST_HEIGHT,
            strips=strips,
            colours=join_round_colours(2),
            version=delt_jax.__version__,
        )
    )


def findings(claims: Sequence[dict[str, Any]], several: bool = False) -> list[str]:
    """Which orderings hold, which do not, and which nobody can tell, a sentence each."""
    if not claims:
        return []
    counts = Counter(claim["verdict"] for claim in claims)
    total = len(claims)
    sentences = [f"{total} ordering{'' if total == 1 else 's'} tested."]
    for verdict, words in (
        (orderings.HOLDS, "Hold here"),
        (orderings.FAILS, "Reversed here"),
        (orderings.OPEN, "Not shown either way"),
        (orderings.UNKNOWN, "Not to be told, for want of results or of seeds"),
    ):
        if counts[verdict]:
            named = [orderings.sentence(c, several) for c in claims if c["verdict"] == verdict]
            shown = "; ".join(named[:6]) + (f"; and {len(named) - 6} more" if named[6:] else "")
            sentences.append(f"{words} ({counts[verdict]}): {shown}.")
    return sentences
