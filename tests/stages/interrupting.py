"""SIGTERM at a moment that a test chooses, without a signal and without a process of its own."""

import contextlib
import signal

import pytest

from delt_jax.errors import Interrupted
from delt_jax.runtime import interruption
from delt_jax.runtime.save_points import SavePoints


@contextlib.contextmanager
def interrupted_at(place):
    """Within it, the run is asked to end at the n-th place (from 1) where it could save."""
    is_due, seen = SavePoints.is_due.fget, []

    def is_due_or_asked(self):
        seen.append(place)
        if len(seen) == place:
            interruption._on_signal(signal.SIGTERM, None)
        return is_due(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interruption, "_request", interruption._Request())
        patch.setattr(SavePoints, "is_due", property(is_due_or_asked))
        try:
            yield
        except Interrupted:
            pass
        else:
            pytest.fail("ended without an interruption")
