"""Hand-written results become the table, the orderings and the page."""

import csv
import dataclasses
import json
import re

import fabricated
import pytest
from test_report import Page

from delt_jax.errors import InputError
from delt_jax.sweep.collection import collect
from delt_jax.sweep.points import Claim, Paper


@pytest.fixture
def collected(tmp_path):
    sweep = fabricated.make_sweep()
    steps = fabricated.make_steps(tmp_path, sweep)
    fabricated.finish(steps[0], (42.0, 43.0, 44.0), 0.90, 255_000, hard=20.25)
    fabricated.finish(steps[1], (42.5, 43.0, 43.5), 0.95, 400_000)
    return collect(sweep, steps, tmp_path), tmp_path


def test_the_table(collected):
    _, folder = collected
    assert (folder / "table.md").read_text().splitlines()[4:] == [
        "| point | student | top-1 | best | hard labels | cosine | image-iterations | "
        "seconds of synthesis | paper | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| delt | conv3_w32 | 43.0 +- 1.0 (3) | 44.0 +- 1.0 | 20.2 +- 0.5 | 0.900 | 255,000 | "
        "1,234 | 43 (table 1) | +0.0 |",
        "| early_only | conv3_w32 | 43.0 +- 0.5 (3) | 44.0 +- 0.5 | - | 0.950 | 400,000 | "
        "1,234 | - | - |",
        "| rded (not done) | conv3_w32 | - | - | - | - | - | - | 37.1 (table 1) | - |",
        "",
        "| ordering | here | difference | 95 % interval | who says so |",
        "| --- | --- | --- | --- | --- |",
        "| top-1 of delt above early_only | not shown | +0.0 | -2.1 to +2.1 | the paper |",
        "| cosine of delt below early_only | holds | -0.050 | -0.053 to -0.047 | the paper |",
        "| top-1 of delt above rded | unknown | - | - | the paper |",
        "| cosine of delt below rded | unknown | - | - | the paper |",
    ]


def test_sweep_json_has_the_schema(collected):
    result, folder = collected
    assert json.loads((folder / "sweep.json").read_text()) == result
    assert (result["schema"], result["schema_version"]) == ("delt_jax/sweep", 1)
    delt, _, rded = result["points"]
    assert (delt["number"], delt["state"], rded["state"]) == (1, "done", "not done")
    assert (delt["report"], rded["report"]) == ("delt/report.html", None)
    assert delt["rows"] == [
        {
            "student": "conv3_w32",
            "top1_mean": 43.0,
            "top1_std": 1.0,
            "best_mean": 44.0,
            "best_std": 1.0,
            "n": 3,
            "seeds": {
                "3407": {"top1": 42.0, "best": 43.0},
                "4663": {"top1": 43.0, "best": 44.0},
                "2897": {"top1": 44.0, "best": 45.0},
            },
            "hard_labels": {"top1_mean": 20.25, "top1_std": 0.5, "n": 3},
            "paper": {"top1": 43.0, "source": "table 1"},
            "difference": 0.0,
            "continual": [],
        }
    ]


def test_steps_of_continual_learning_have_a_table_and_a_figure(tmp_path):
    steps = fabricated.make_steps(tmp_path)
    fabricated.finish(steps[0], continual=[(5, 40.25), (10, 30.0)])
    fabricated.finish(steps[1], continual=[(5, 38.0)])  # not at its end yet
    collected = collect(fabricated.make_sweep(), steps, tmp_path)
    assert collected["points"][0]["rows"][0]["continual"][1] == {
        "step": 2,
        "classes": 10,
        "top1_mean": 30.0,
        "top1_std": 0.5,
        "n": 3,
    }
    lines = (tmp_path / "table.md").read_text().splitlines()
    first = lines.index("| conv3_w32, classes seen | 5 | 10 |")
    assert lines[first + 1 : first + 4] == [
        "| --- | --- | --- |",
        "| delt | 40.2 +- 0.5 | 30.0 +- 0.5 |",
        "| early_only | 38.0 +- 0.5 | - |",
    ]
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "continual" in {section["id"] for section in page.named("section")}
    assert "Top-1 accuracy of conv3_w32 on the classes seen" in page.text


def test_the_csv_is_unrounded(collected):
    _, folder = collected
    with (folder / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["point"] for row in rows] == ["delt", "early_only", "rded"]
    assert rows[0]["hard_labels_mean"] == "20.25"
    assert (rows[2]["top1_mean"], rows[2]["paper"]) == ("", "37.1")


def test_the_page_is_whole_and_needs_nothing_else(collected):
    _, folder = collected
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    links = []
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            target = attributes.get(name) or "#"
            if not target.startswith(("data:", "#")):
                links.append(target)
    assert links == ["delt/report.html", "early_only/report.html"] * 2
    assert re.findall(r"url\((?!#)", text) == []
    assert page.named("script") == []
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert len(page.named("caption")) == len(page.named("table")) == 3
    assert all(svg.get("aria-label") for svg in page.named("svg") if svg.get("role") == "img")
    anchors = {a["href"][1:] for a in page.named("a") if a["href"].startswith("#")}
    assert anchors == {section["id"] for section in page.named("section")}
    # 4 classes by the first and the last of 3 slots, of two points
    assert len(page.named("img")) == 16
    assert all(image["alt"] for image in page.named("img"))


def test_the_page_says_which_orderings_hold(collected):
    _, folder = collected
    text = " ".join(Page((folder / "report.html").read_text(encoding="utf-8")).text.split())
    assert "4 orderings tested." in text
    assert "Hold here (1): cosine of delt below early_only." in text
    assert "Not shown either way (1): top-1 of delt above early_only." in text
    assert "for want of results or of seeds (2): top-1 of delt above rded; cosine" in text
    assert "Reversed" not in text


def test_one_seed_says_nothing_of_an_ordering(tmp_path):
    sweep = fabricated.make_sweep(("delt", "rded"))
    steps = fabricated.make_steps(tmp_path, sweep)
    fabricated.finish(steps[0], (40.0,), 0.90)
    fabricated.finish(steps[1], (30.0,), 0.95)
    claim = collect(sweep, steps, tmp_path)["claims"][0]
    assert (claim["difference"], claim["low"], claim["verdict"]) == (10.0, None, "unknown")
    assert "| delt | conv3_w32 | 40.0 (1) | 41.0 |" in (tmp_path / "table.md").read_text()


def test_every_student_has_its_row_and_its_paper(tmp_path):
    made = fabricated.make_sweep(("delt", "rded"), ("teacher", "conv3"))
    paper = {"teacher": Paper(46.4, "students"), "conv3": Paper(36.1, "students")}
    delt = dataclasses.replace(made.points[0], paper=paper)
    claims = (Claim("delt", "rded", "top1", "the paper", "conv3"),)
    sweep = dataclasses.replace(made, points=(delt, made.points[1]), claims=claims)
    steps = fabricated.make_steps(tmp_path, sweep)
    fabricated.finish(steps[0], (39.0, 40.0, 41.0), more=("conv3",))
    fabricated.finish(steps[1], (49.0, 50.0, 51.0), more=("conv3",))
    result = collect(sweep, steps, tmp_path)
    rows = {row["student"]: row for row in result["points"][0]["rows"]}
    assert {name: round(row["difference"], 1) for name, row in rows.items()} == {
        "conv3_w32": -6.4,
        "conv3": 3.9,
    }
    assert result["claims"][0]["verdict"] == "does not hold"
    text = " ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).text.split())
    assert "Reversed here (1): top-1 of delt above rded with conv3." in text


def test_without_numbers_of_the_paper_no_columns_are_for_them(tmp_path):
    made = fabricated.make_sweep(("delt",))
    sweep = dataclasses.replace(made, points=(dataclasses.replace(made.points[0], paper={}),))
    steps = fabricated.make_steps(tmp_path, sweep)
    fabricated.finish(steps[0])
    collect(sweep, steps, tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[4].endswith("| image-iterations | seconds of synthesis |")
    assert {line.count("|") for line in lines[4:7]} == {9}
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>.*</tr>", text[: text.index('id="accuracy"')])
    assert [row.count("<th") + row.count("<td") for row in rows] == [8, 8]
    assert "less the paper" not in "".join(lines) + text
    header = (tmp_path / "sweep.csv").read_text().splitlines()[0]
    assert header.endswith("paper,paper_source,difference")  # programs find the same columns


def test_names_of_other_people_stay_text(tmp_path):
    sweep = fabricated.make_sweep(("delt",))
    steps = fabricated.make_steps(tmp_path, sweep)
    hostile = ("<script>alert(1)</script>", '"><b>', "{{ 7 * 7 }}", "plain")
    fabricated.finish(steps[0], names=hostile)
    collect(sweep, steps, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.named("script") == page.named("b") == []
    assert f"delt, class {hostile[1]}, rank 0" in {image["alt"] for image in page.named("img")}


def test_nothing_done_is_said(tmp_path):
    sweep = fabricated.make_sweep()
    result = collect(sweep, fabricated.make_steps(tmp_path, sweep), tmp_path)
    assert {claim["verdict"] for claim in result["claims"]} == {"unknown"}
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0 of 3 points done" in page.text
    assert [section["id"] for section in page.named("section")] == ["table", "orderings", "runs"]


def test_a_damaged_result_is_named(tmp_path):
    sweep = fabricated.make_sweep()
    steps = fabricated.make_steps(tmp_path, sweep)
    fabricated.finish(steps[0])
    steps[0].workdir.results_json.write_text("{")
    with pytest.raises(InputError, match=r"delt/results\.json: not valid JSON"):
        collect(sweep, steps, tmp_path)
