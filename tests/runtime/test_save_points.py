"""Places to save: what is asked there, and how long the save may take."""

import math
import signal

import pytest

from delt_jax.runtime import interruption
from delt_jax.runtime.save_points import SavePoints


@pytest.mark.parametrize("minutes", [0.0, 600.0])
def test_a_save_that_a_signal_asks_for_may_take_its_time_also_where_it_is_due(monkeypatch, minutes):
    request = interruption._Request()
    monkeypatch.setattr(interruption, "_request", request)
    points = SavePoints(minutes)
    assert points.is_due == (minutes == 0)
    request.held_back = 1
    interruption._on_signal(signal.SIGTERM, None)
    assert points.is_due
    assert request.deadline == math.inf
