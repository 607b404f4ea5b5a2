"""What is learnt once and kept."""

import numpy as np

from delt_jax.data.kept import kept


def test_learns_once_for_each_identity(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path))
    learnt = []

    def learn():
        learnt.append(None)
        return np.arange(3)

    for identity in ("a", "a", "b", "a"):
        np.testing.assert_array_equal(kept("labels", identity, learn), np.arange(3))
    assert len(learnt) == 2
    (first, _) = sorted((tmp_path / "data").iterdir())
    first.write_bytes(first.read_bytes()[:20])  # cut short: learnt again
    for identity in ("a", "b"):
        np.testing.assert_array_equal(kept("labels", identity, learn), np.arange(3))
    assert len(learnt) == 3


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path / "file"))
    assert kept("labels", "a", lambda: np.ones(1)) == 1
    assert "cannot be written" in caplog.text
