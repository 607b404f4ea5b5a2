"""Figures of measurements. They need matplotlib: `pip install -e '.[bench]'`."""

import pathlib
from typing import Any

from benchmarks.turns import OURS, THEIRS
from delt_jax.errors import InputError

COLOURS = {OURS: "#4c3fb3", THEIRS: "#c08a1e"}


def _axes(panels: int) -> tuple[Any, Any]:
    """A figure and its panels in a row."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise InputError("--plot: needs matplotlib; expected pip install -e '.[bench]'") from None
    mpl.use("Agg")  # no display
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, panels, figsize=(4.2 * panels, 3.2), squeeze=False, layout="constrained"
    )
    return figure, axes[0]


def synthesis(result: dict[str, Any], file: pathlib.Path) -> None:
    """Seconds of a step by active images, and image-iterations per second as something grows.

    Args:
      result: of `benchmarks.synthesis`; parts that are not there are left out.
      file: .svg, .png or .pdf.
    """
    grow = {"class_batches": "class batches a device", "devices": "devices", "ipc": "IPC"}
    grow = {part: label for part, label in grow.items() if part in result}
    panels = len(grow) + ("rounds" in result)
    if not panels:
        raise InputError("--plot: nothing to draw; expected rounds, class_batches, devices or ipc")
    figure, axes = _axes(panels)
    axes = iter(axes)
    if "rounds" in result:
        by_active = result["rounds"]["by_active"]
        _lines(next(axes), by_active, "active", "active images", "seconds", "seconds a step")
    for part, label in grow.items():
        rows = [{**row, "rate": {OURS: row["images_per_second"]}} for row in result[part]]
        _lines(next(axes), rows, part, label, "rate", "image-iterations/s")
    work, device = result["work"], result["machine"]["device"]
    figure.suptitle(f"{work['arch']}, {work['size']} px, {work['dtype']}, {device}", fontsize=10)
    figure.savefig(file)


def evaluation(result: dict[str, Any], file: pathlib.Path) -> None:
    """Images per second of each side.

    Args:
      result: of `benchmarks.evaluation`.
      file: .svg, .png or .pdf.
    """
    figure, (axis,) = _axes(1)
    rates = result["student"]["images_per_second"]
    axis.bar(list(rates), list(rates.values()), color=[COLOURS[side] for side in rates])
    axis.set_ylabel("images/s")
    axis.set_title(f"{result['work']['arch']}, batches of {result['work']['batch']}", fontsize=10)
    figure.savefig(file)


def _lines(axis: Any, rows: list[dict], x: str, x_label: str, y: str, y_label: str) -> None:
    """A line a side, from zero."""
    for side in rows[0][y]:
        values = [row[y][side] for row in rows]
        axis.plot([row[x] for row in rows], values, "o-", color=COLOURS[side], label=side)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
