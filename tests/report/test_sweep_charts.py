"""Layouts of a sweep's figures."""

from delt_jax.report.sweep_charts import cosine_plot, cost_plots, spread_labels, top1_plot


def point(name, mean, cost, cosine=0.9, paper=None, data="digits"):
    row = {"student": "conv3", "top1_mean": mean, "top1_std": 1.0, "n": 2}
    row |= {"seeds": {"1": {"top1": mean - 1}, "2": {"top1": mean + 1}}}
    row["paper"] = paper and {"top1": paper, "source": "table 1"}
    return {
        "name": name,
        "rows": [row],
        "image_iterations": cost,
        "cosine": cosine,
        "data": {"name": data},
    }


def test_the_paper_s_number_is_on_the_axis():
    plot = top1_plot({"points": [point("a", 10.0, 1, paper=50.0), point("b", 12.0, 1)]})
    assert plot.axis.low <= 9 and plot.axis.high >= 50
    first, second = plot.groups[0].dots
    assert first.paper == plot.axis.at(50.0)
    assert second.paper is None
    assert (first.low, first.high) == (plot.axis.at(9.0), plot.axis.at(11.0))


def test_nothing_measured_is_no_figure():
    empty = point("a", 10.0, None, None)
    empty["rows"][0]["n"] = 0
    assert top1_plot({"points": [empty]}) is None
    assert cosine_plot({"points": [empty]}) is None
    assert cost_plots({"points": [empty]}) == []
    assert cost_plots({"points": [point("a", 10.0, 0), point("b", 10.0, 0)]}) == []  # no synthesis


def test_cost_grows_to_the_right_and_accuracy_upwards():
    (plot,) = cost_plots({"points": [point("a", 10.0, 0), point("b", 30.0, 400)]})
    assert plot.title == "conv3 on digits"
    first, second = plot.marks
    assert (first.x, second.x) == (0.0, 100.0)
    assert second.high < second.y < second.low < first.high < first.y


def test_data_sets_do_not_share_a_figure_of_cost():
    points = [point(f"{data}{cost}", 10.0, cost, data=data) for data in "ab" for cost in (0, 9)]
    plots = cost_plots({"points": points})
    assert [plot.title for plot in plots] == ["conv3 on a", "conv3 on b"]
    assert [mark.name for mark in plots[1].marks] == ["b0", "b9"]


def test_labels_of_neighbours_keep_apart():
    assert spread_labels([50, 50, 50], [100, 104, 102]) == [100, 130, 115]
    assert spread_labels([0, 80], [100, 100]) == [100, 100]
