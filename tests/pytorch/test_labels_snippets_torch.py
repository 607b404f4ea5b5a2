"""The snippets of docs/labels.md, run as they stand."""

import pathlib
import re

import pytest
from labelled_run import IMAGES, make_run, source_of

from delt_jax.export import compact_labels

torch = pytest.importorskip("torch")

from delt_jax.torch import DistilledSet  # noqa: E402

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "labels.md"


@pytest.fixture(scope="module")
def snippets():
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("snippets")
    workdir, _ = make_run(folder)
    compact_labels.write(source_of(workdir), folder / "export", {})
    return workdir, folder / "export"


def test_a_dozen_lines_read_what_the_dataset_reads(snippets, run):
    _, exported = run
    names = {}
    exec(snippets[0], names)
    data = DistilledSet(exported, exported / "labels")
    for epoch in (0, 2, 4):
        data.set_epoch(epoch)
        read = names["open_epoch"](str(exported / "labels"), epoch)
        for index in range(IMAGES):
            pixels, logits = names["sample"](data.images, read, index)
            shown, expected = data[index]
            torch.testing.assert_close((pixels - data.mean) / data.std, shown)
            assert torch.equal(logits, expected)


def test_the_dataset_as_it_is_shown(snippets, run, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").symlink_to(run[0].path)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippets[1], names)
    assert names["pixels"].shape == (3, 8, 8) and names["logits"].shape == (3,)
