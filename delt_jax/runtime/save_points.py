"""When to save work under way: every so often, and when the run is about to end."""

import time

from delt_jax.runtime import hosts, interruption

MINUTES = 3.0  # between two saves, where nobody says otherwise


class SavePoints:
    """Asked at each place where work can be saved.

        if points.is_due:
            save()
            points.saved()

    Args:
      minutes: `config.checkpoint_minutes`, between two saves: what a kill may cost.
    """

    def __init__(self, minutes: float = MINUTES):
        self._seconds = 60 * minutes
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether to save now: it is time, or this run or another of its hosts is to end."""
        is_asked = interruption.is_asked()  # always, for it gives the save its time
        is_late = time.monotonic() - self._last >= self._seconds
        return is_asked or is_late or hosts.current().is_broken

    def saved(self) -> None:
        """Counts from now on; raises `Interrupted` where the run is to end."""
        self._last = time.monotonic()
        interruption.check()
        hosts.current().check()
