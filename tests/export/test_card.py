"""The README.md of an export."""

import json

import pytest
from digits_set import write_digits

from delt_jax.export.card import write_card
from delt_jax.export.distilled_set import DistilledSet


@pytest.fixture
def opened(tmp_path):
    write_digits(tmp_path / "run" / "distilled")
    return DistilledSet.open(tmp_path / "run")


def test_facts(opened):
    text = write_card(opened, "npz", "import numpy")
    for line in (
        "# digits, distilled: 8 images per class",
        "| images | 24, of 3 classes |",
        "| method | EarlyLate |",
        "| teacher | conv3_w32, top-1 98.3 % |",
        "| normalised with | mean [0.5, 0.25, 0.125], std [0.25, 0.5, 0.125], of pixels",
        "| settings | iterations 400, round_iterations 50, early_late True |",
        "```python\nimport numpy\n```",
    ):
        assert line in text
    assert "CC BY 4.0" in text
    assert "Accuracies" not in text


def test_accuracies_where_there_are_some(opened):
    summary = {"top1_mean": 91.25, "top1_std": 0.4, "n": 3, "epochs": 20}
    results = {
        "students": {"conv3_w32": {"distilled": summary, "random": {"top1_mean": None}}},
        "hard_labels": {"conv3_w32": {"distilled": {**summary, "top1_std": None, "n": 1}}},
    }
    opened.workdir.results_json.write_text(json.dumps(results))
    text = write_card(opened, "npz", "")
    assert "| conv3_w32 | distilled | the teacher's, online | 91.2 +- 0.4 | 3 | 20 |" in text
    assert "| conv3_w32 | distilled | the classes | 91.2 | 1 | 20 |" in text
    assert "| random |" not in text
    opened.workdir.results_json.write_text("{")
    assert "Accuracies" not in write_card(opened, "npz", "")


def test_data_that_we_know_nothing_of(opened):
    opened.header.update(data="my|birds\n# injected", method="a\nb")
    del opened.header["teacher"], opened.header["synthesis"], opened.header["mean"]
    text = write_card(opened, "npz", "")
    assert "# my\\|birds # injected, distilled" in text
    assert "| method | a b |" in text
    assert "| teacher |" not in text
    assert "| normalised with |" not in text
    assert "does not know under which terms" in text


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\\|b", r"a\\\|b"),  # the first backslash is text, the third keeps the cell whole
        ("`x`", r"\`x\`"),
        ("[x](//a.org)", r"[x]\(//a.org)"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("https://a.org", "https:<!-- -->//a.org"),
        ("WWW.a.org", "WWW<!-- -->.a.org"),
        ("me@a.org", "me@<!-- -->a.org"),
        ("\ud800", r"\\ud800"),
    ],
)
def test_a_name_is_no_markdown(opened, name, written):
    opened.header["method"] = name
    assert f"| method | {written} |\n" in write_card(opened, "npz", "")


@pytest.mark.parametrize(
    "results",
    [
        {"students": {"a": {"distilled": summary}}}
        for summary in (5, None, [1], {"top1_mean": "x"}, {"top1_mean": [1]}, {"top1_mean": 1e999})
    ]
    + [{"students": {"a": 5}}, {"students": []}, {"hard_labels": 5}],
)
def test_results_of_other_kinds_are_left_out(opened, results):
    opened.workdir.results_json.write_text(json.dumps(results))
    assert "Accuracies" not in write_card(opened, "npz", "")


def test_what_was_changed_of_a_method_is_said(opened):
    opened.header.update(method="rded", method_changes=["select.mode=min", "select.crops=|"])
    text = write_card(opened, "npz", "")
    assert "| method | rded (select.mode=min, select.crops=\\|) |\n" in text
    opened.header["method_changes"] = {"of": "a stranger"}
    assert "| method | rded |\n" in write_card(opened, "npz", "")
