"""metrics.jsonl: a JSON object a line, whatever the values."""

import jax.numpy as jnp
import numpy as np

from delt_jax.runtime import metrics
from delt_jax.runtime.metrics import MetricsLog, read_metrics


def test_rows_come_back_with_plain_numbers(tmp_path):
    log = MetricsLog(tmp_path / "m" / "metrics.jsonl")
    log.write("select", loss=jnp.float32(0.5), n=np.int64(3), bad=float("nan"))
    log.write("evaluate", top1=1.25)
    first, second = read_metrics(tmp_path / "m" / "metrics.jsonl")
    assert (first["stage"], first["loss"], first["n"], first["bad"]) == ("select", 0.5, 3, None)
    assert second["top1"] == 1.25
    assert second["time"] >= first["time"]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).write("a", x=1)
    with path.open("a") as file:
        file.write('{"time": 1, "sta')
    assert len(read_metrics(path)) == 1
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_clock_that_is_set_back_does_not_change_the_order(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for value, now in enumerate((100.0, 5.0, 6.0, 200.0)):
        monkeypatch.setattr(metrics.time, "time", lambda now=now: now)
        log.write("synthesize", value=value)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["value"] for row in rows] == [0, 1, 2, 3]
