"""Axes: round ticks, positions, thinning."""

from delt_jax.report.axes import axis, iteration_axis, thin


def test_axes():
    scale = axis([28.1, 37.4], count=6)
    assert (scale.low, scale.high, scale.ticks) == (28.0, 38.0, (28, 30, 32, 34, 36, 38))
    assert scale.at(33.0) == 50.0
    small = axis([0.91, 0.95], count=5)
    assert [small.label(tick) for tick in small.ticks] == ["0.91", "0.92", "0.93", "0.94", "0.95"]
    assert iteration_axis(4000, 500).ticks == tuple(range(0, 4001, 500))
    assert len(iteration_axis(4000, 100).ticks) == 9
    assert axis([5.0]).low < 5.0 < axis([5.0]).high
    assert thin(10, 4) == [0, 3, 6, 9]
    assert thin(3, 4) == [0, 1, 2]
