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


def test_class_curves_ascend_and_leave_out_what_was_not_measured():
    entry = {"mean": 0.7, "per_class": [0.9, 0.5, None, 0.7], "pairwise": {"per_class": [None] * 4}}
    diversity = {"distilled": entry, "real": entry | {"pairwise": {"per_class": [0.4, 0.2]}}}
    to_centroid, of_pairs = charts.class_curves(diversity, ["distilled"])
    assert [curve.set for curve in to_centroid.curves] == ["distilled"]
    # 1, 2 and 3 along 1 to 3; .5, .7 and .9 up from .5 to .9.
    assert (to_centroid.along.low, to_centroid.along.high) == (1, 3)
    assert to_centroid.curves[0].path == "M0 100L50 50L100 0"
    assert [curve.set for curve in of_pairs.curves] == ["real"]
    assert charts.class_curves({}, []) == []


def test_continual_curves_rise_with_the_classes():
    steps = [
        {"step": 1, "classes": 2, "top1_mean": 50.0, "top1_std": None, "n": 1},
        {"step": 2, "classes": 4, "top1_mean": 40.0, "top1_std": 60.0, "n": 2},
    ]
    (panel,) = charts.continual_curves({"conv3": {"random": steps}})
    assert (panel.along.high, panel.values.low, panel.values.high) == (4, 0, 100)
    (curve,) = panel.curves
    assert curve.path == "M50 50L100 60"
    assert curve.band == "M50 50L100 0L100 100L50 50Z"  # 40 - 60 is cut to none
