"""metrics.jsonl: every metric of a run, one JSON object a line."""

import json
import math
import os
import pathlib
import time
from typing import Any, BinaryIO

from delt_jax.runtime import faults, strict_json


class MetricsLog:
    """Appends metrics to a file, a JSON object a line: `{"time": ..., "stage": ..., ...}`."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def write(self, stage: str, **values: Any) -> None:
        """Appends one line. NaN and infinity become null."""
        row = {"time": round(time.time(), 3), "stage": stage, **values}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One write call per line: lines of a process that is killed are whole or not there. Those
        # that a full disk has cut short are not to spoil the next one.
        with faults.named(self._path), self._path.open("ab+") as file:
            begins = "" if _is_at_line_start(file) else "\n"
            file.write(f"{begins}{strict_json.dumps(row)}\n".encode())


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics file, oldest first; a line cut short by a kill is left out.

    Those of other hosts of the run (`metrics.host1.jsonl`, beside `metrics.jsonl`) are among them.
    """
    rows: list[tuple[float, dict[str, Any]]] = []
    for file in (path, *sorted(path.parent.glob(f"{path.stem}.host*{path.suffix}"))):
        if not file.exists():
            continue
        latest = -math.inf
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            # A clock that is set back does not change the order in which a host wrote.
            latest = max(latest, row["time"])
            rows.append((latest, row))
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


def _is_at_line_start(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
    return not size or file.read(1) == b"\n"
