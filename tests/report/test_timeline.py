"""The schedule as a picture: positions against the published deal."""

import pytest

from delt_jax.core.schedule import Schedule, class_batches, learning_rates, min_crop_scales
from delt_jax.report.timeline import build_timeline


def test_timeline_of_the_paper():
    joins = class_batches(Schedule(10, 4000, 500), 1, 10)[0].join.tolist()
    timeline = build_timeline(
        {
            "join_rounds": joins,
            "iterations": 4000,
            "round_iterations": 500,
            "learning_rate": learning_rates(0.25, 4000)[::20].tolist(),
            "min_crop": min_crop_scales("cosine", 1.0, 4000)[::20].tolist(),
        }
    )
    assert timeline is not None
    starts = [bar.x for bar in timeline.bars]
    assert starts == [0, 0, 12.5, 12.5, 25, 37.5, 50, 62.5, 75, 87.5]
    assert all(bar.x + bar.width == 100 for bar in timeline.bars)
    assert [lane.iterations for lane in timeline.lanes] == [
        *(4000, 4000, 3500, 3500, 3000, 2500, 2000, 1500, 1000, 500)
    ]
    assert timeline.saved_fraction == pytest.approx(0.3625)  # REFERENCE: 63.75 % of constant
    rates = [round(join.learning_rate, 4) for join in timeline.joins]
    assert rates == [0.25, 0.2405, 0.2134, 0.1728, 0.125, 0.0772, 0.0366, 0.0095]
    assert timeline.learning_rate_path.startswith("M0 0L0.5 ")


def test_timeline_groups_thin_slots_by_round():
    joins = class_batches(Schedule(50, 4000, 500), 1, 50)[0].join.tolist()
    timeline = build_timeline({"join_rounds": joins, "iterations": 4000, "round_iterations": 500})
    assert timeline is not None
    assert [lane.ranks.replace("\N{EN DASH}", "-") for lane in timeline.lanes] == [
        *("0-6", "7-13", "14-19", "20-25", "26-31", "32-37", "38-43", "44-49")
    ]
    assert timeline.saved_fraction == pytest.approx(0.4225)
    assert build_timeline({}) is None
