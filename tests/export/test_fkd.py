"""What the format `fkd` refuses."""

import dataclasses
import sys

import pytest
from labelled_run import make_run, source_of

from delt_jax.errors import InputError
from delt_jax.export import fkd


def test_an_order_that_their_loader_does_not_draw_is_refused(tmp_path):
    pytest.importorskip("torch")
    run, _ = make_run(tmp_path, order_seed=7)
    with pytest.raises(InputError, match=r"labels\.order_seed 7; expected 42"):
        fkd.write(source_of(run), tmp_path / "out", {})


def test_names_that_sort_otherwise_are_refused(tmp_path):
    pytest.importorskip("torch")
    run, _ = make_run(tmp_path)
    source = source_of(run)
    folder = source.records[8].file.rpartition("/")[0]
    last = dataclasses.replace(source.records[8], file=f"{folder}/class002_id0002.png")
    source.records = (*source.records[:8], last)
    with pytest.raises(InputError, match="another order than by class and slot"):
        fkd.write(source, tmp_path / "out", {})


def test_needs_torch(tmp_path, monkeypatch):
    run, _ = make_run(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"fkd: needs PyTorch .* 'delt_jax\[torch\]'"):
        fkd.write(source_of(run), tmp_path / "out", {})
