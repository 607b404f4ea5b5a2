import jax
import pytest

from benchmarks import evaluation, figures, machine, tables
from delt_jax.models import registry
from delt_jax.runtime import matrix_rate

WORK = evaluation.Work("conv3_w32", 8, batch=4, operations=0)  # RandAugment takes long to compile


@pytest.mark.slow
def test_a_student_is_timed(monkeypatch, tmp_path):
    monkeypatch.setitem(evaluation.WORKS, "tiny", WORK)
    monkeypatch.setitem(matrix_rate.SIDE, "cpu", 16)
    monkeypatch.setitem(machine.BYTES, "cpu", 1024)
    flags = ["--arch=conv3_w32", "--size=8", "--batch=4", "--steps=2", "--turns=2"]
    result = evaluation.measure(evaluation.parse(flags))
    found = result["student"]
    forward = machine.forward_flops(registry.create("conv3_w32", 10, 8), 8)
    assert found["flops"] == 4 * 4 * forward
    assert found["seconds"]["ours"] * found["images_per_second"]["ours"] == pytest.approx(4)
    assert "| ours |" in tables.evaluation(result) and "theirs" not in tables.evaluation(result)
    pytest.importorskip("matplotlib")
    figures.evaluation(result, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_training_goes_on_from_turn_to_turn():
    training = evaluation.Training(WORK, batches=2)
    training.run(3)
    training.run(2)
    counts = [leaf for leaf in jax.tree.leaves(training.state) if leaf.dtype == "int32"]
    assert [int(count) for count in counts] == [5]
