"""Layouts of the smaller figures."""

from delt_jax.report import charts


def test_losses_of_a_resumed_run_count_once():
    rows = [
        {"stage": "synthesize", "class_batch": b, "round": t > 10, "iteration": t, "loss": value}
        for b, t, value in ((0, 10, 9.0), (0, 10, 3.0), (1, 10, 1.0), (0, 20, 1.0), (1, 20, 1.0))
    ]
    (panel,) = charts.loss_panels(rows, {"iterations": 20, "round_iterations": 10})
    assert panel.name == "total loss"
    assert (panel.first, panel.last) == (2.0, 1.0)
    assert [segment.round for segment in panel.segments] == [0, 1]
    assert panel.banded
