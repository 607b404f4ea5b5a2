"""metrics.jsonl: every metric of a run, one JSON object a line."""

import json
import math
import pathlib
import time
from typing import Any


class MetricsLog:
    """Appends metrics to a file, a JSON object a line: `{"time": ..., "stage": ..., ...}`."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def write(self, stage: str, **values: Any) -> None:
        """Appends one line. Arrays of one element become numbers; NaN and infinity become null."""
        row = {"time": round(time.time(), 3), "stage": stage}
        row.update({name: _plain(value) for name, value in values.items()})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One write call per line: lines of a process that is killed are whole or not there.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics file, oldest first; a line cut short by a kill is left out.

    Those of other hosts of the run (`metrics.host1.jsonl`, beside `metrics.jsonl`) are among them.
    """
    rows = []
    for file in (path, *sorted(path.parent.glob(f"{path.stem}.host*{path.suffix}"))):
        if not file.exists():
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return sorted(rows, key=lambda row: row["time"])


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
