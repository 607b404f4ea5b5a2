from benchmarks import turns
from benchmarks.turns import OURS, THEIRS


def test_sides_alternate_and_medians_are_over_all_turns():
    order, times = [], {OURS: iter([1.0, 9.0, 2.0]), THEIRS: iter([4.0, 4.0, 6.0])}

    def side(name):
        def turn():
            order.append(name)
            return {"step": [next(times[name])]}

        return turn

    medians = turns.take_turns({OURS: side(OURS), THEIRS: side(THEIRS)}, turns=3)
    assert order == [OURS, THEIRS] * 3
    assert medians == {OURS: {"step": 2.0}, THEIRS: {"step": 4.0}}


def test_the_ratio_is_of_images_not_of_steps():
    row = turns.compare({OURS: 40, THEIRS: 10}, {OURS: 2.0, THEIRS: 1.0})
    assert row["images_per_second"] == {OURS: 20.0, THEIRS: 10.0}
    assert row["ratio"] == 2.0


def test_one_side_alone_has_no_ratio():
    assert "ratio" not in turns.compare({OURS: 10}, {OURS: 1.0})
