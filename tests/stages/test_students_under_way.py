"""Students in training: when their checkpoints are written."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from interrupting import interrupted_at

from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.stages.students_under_way import UnderWay


@pytest.fixture
def saved_at(monkeypatch):
    """The step of every checkpoint that is written."""
    steps, save = [], Checkpointer.save

    def spy(self, step, tree):
        steps.append(step)
        save(self, step, tree)

    monkeypatch.setattr(Checkpointer, "save", spy)
    return steps


def weights(value) -> Any:
    """What stands for the state of a student."""
    return {"weights": jnp.full(2, value)}


def test_a_checkpoint_is_not_written_again_while_no_step_is_done(tmp_path, saved_at):
    """During a test, which has many places to save; also in the run that goes on with it."""

    def under_way():
        return UnderWay(weights(0), np.array([4, 2]), 1, 3, tmp_path / "students", save_minutes=0)

    with under_way() as way:
        way.step(weights(1), jnp.zeros((1, 1)), 1)
        way.pause()
        with interrupted_at(1):
            way.pause()
    with under_way() as way:
        way.restore(lambda state: state)
        assert way.done == 1
        with interrupted_at(1):
            way.pause()
        assert saved_at == [1]
        way.step(weights(1), jnp.zeros((1, 1)), 1)
    assert saved_at == [1, 2]
