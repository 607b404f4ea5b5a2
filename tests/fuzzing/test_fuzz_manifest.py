"""The manifest reader, and what is built on it, fed with damaged and hostile folders."""

import contextlib
import json

import pytest
from digits_set import write_digits
from hypothesis import given
from hypothesis import strategies as st
from mutations import anything, mutated, mutated_json, nothing_appears, only_clear_errors

from delt_jax.errors import InputError
from delt_jax.export import card, export_folder, manifest
from delt_jax.export.distilled_set import DistilledSet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("around") / "set"
    write_digits(folder)
    manifest_json = folder / "manifest.json"
    value = json.loads(manifest_json.read_text())
    value["images"] = value["images"][::8]  # one of each class: the rest would be more of the same
    value["images"][0] |= {"sources": ["a/b.png", "c.png"], "boxes": [[0, 0, 4, 4]]}
    manifest_json.write_text(json.dumps(value))
    with nothing_appears(folder.parent):
        yield folder


@pytest.fixture(scope="module")
def valid(folder):
    return (folder / "manifest.json").read_bytes()


def read_everything(folder):
    """All that a stranger's folder is asked for."""
    with only_clear_errors():
        for line in manifest.problems(folder, manifest.read_manifest(folder)):
            assert len(line.splitlines()) == 1
    with only_clear_errors():
        opened = DistilledSet.open(folder)
        assert len(opened.class_names) == len(set(opened.class_names))
        opened.file(0)
        with contextlib.suppress(InputError):  # there may be none
            opened.statistics("teacher")
        (folder / "README.md").write_text(card.write_card(opened, "npz", ""), encoding="utf-8")
        (folder / "README.md").unlink()
    for line in export_folder.problems(folder):
        assert len(line.splitlines()) == 1


@given(st.data())
def test_damaged_bytes(folder, valid, data):
    (folder / "manifest.json").write_bytes(data.draw(mutated(valid)))
    read_everything(folder)


@given(st.data())
def test_other_values(folder, valid, data):
    (folder / "manifest.json").write_text(data.draw(mutated_json(json.loads(valid))))
    read_everything(folder)


@given(value=anything())
def test_any_json(folder, value):
    (folder / "manifest.json").write_text(json.dumps(value))
    read_everything(folder)


@given(st.data())
def test_sums(folder, valid, data):
    (folder / "manifest.json").write_bytes(valid)
    lines = f"{'0' * 64}  manifest.json\n{'1' * 64} *train/a.png\n".encode()
    (folder / "SHA256SUMS").write_bytes(data.draw(mutated(lines)))
    read_everything(folder)
    (folder / "SHA256SUMS").unlink()
