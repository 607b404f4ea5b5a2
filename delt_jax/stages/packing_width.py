"""How many class batches run side by side on a device: asked for, or found by trying.

Small rounds do not fill an accelerator; class batches beside one another do, until memory or the
arithmetic units are full. The width changes the speed and nothing else.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core import packing, rounds, synthesis
from delt_jax.core.packing import Pack
from delt_jax.core.schedule import ClassBatch
from delt_jax.core.synthesis import State, Variables
from delt_jax.errors import InputError
from delt_jax.models.cost import tree_bytes
from delt_jax.runtime import faults
from delt_jax.runtime.metrics import MetricsLog

AUTO = 0  # the value of `synthesis.class_batches_per_device` that stands for a search
GAIN = 1.05  # a wider pack must be this much faster than the best so far
MEMORY_SHARE = 0.9  # of a device's memory that a program may take; the rest is the allocator's
TRIAL_SHARE = 0.1  # no further trial where it would take more than this share of what is left
TIMED_SECONDS = 0.5  # of steps, twice
MOST_STEPS = 200  # so many at most
ONE_TOO_MANY = (
    "one class batch does not fit into the device's memory; expected a smaller "
    "synthesis.class_batch, or synthesis.compute_dtype = bfloat16"
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was found at one width.

    Attributes:
      width: class batches on each device.
      memory: bytes that the widest round takes on a device.
      rate: image-iterations per second, over all devices; None where it was not run.
      seconds: that the trial took, compiling included.
    """

    width: int
    memory: int
    rate: float | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Choice:
    """A width, and why.

    Attributes:
      width: class batches on each device.
      why: the search ended there, in words.
      trials: in the order in which they were made; none where nothing was measured.
    """

    width: int
    why: str
    trials: tuple[Trial, ...] = ()

    def describe(self) -> str:
        """One line for people."""
        beside = "batch" if self.width == 1 else "batches side by side"
        found = ", ".join(
            f"{trial.width}: {f'{trial.rate:,.0f}/s' if trial.rate else 'not run'} in "
            f"{trial.memory / 1e9:.2f} GB"
            for trial in self.trials
        )
        found = f"; image-iterations by width: {found}" if found else ""
        return f"{self.width} class {beside} on a device ({self.why}{found})"


def search(
    most: int,
    memory: Callable[[int], int],
    measure: Callable[[int], float],
    limit: float | None,
    image_iterations: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Choice:
    """Tries 1, 2, 4, ... class batches on a device, as long as it pays.

    Args:
      most: class batches that there are for each device.
      memory: bytes that a width takes on a device; compiles.
      measure: image-iterations per second at a width; runs.
      limit: bytes that may be taken; None where a device does not tell.
      image_iterations: that the run still has to do; a trial must be worth its time.
      clock: gives seconds.

    Returns:
      The width with the best rate, where each doubling has to gain `GAIN`. What runs out of memory
      is not chosen.

    Raises:
      InputError: where one class batch alone does not fit into the memory.
    """
    trials: list[Trial] = []
    best = 1
    for width in _widths(most):
        start = clock()
        taken, rate = 0, None
        try:
            taken = memory(width)
            # One class batch is all that could be done with less, so it is tried in any case.
            if limit is None or taken <= limit or width == 1:
                rate = measure(width)
        except jax.errors.JaxRuntimeError as error:
            if not faults.is_out_of_device_memory(error):
                raise
            if width == 1:
                raise InputError(ONE_TOO_MANY) from error
        trials.append(Trial(width, taken, rate, clock() - start))
        if rate is None:
            return Choice(best, f"{width} do not fit into the memory", tuple(trials))
        if width > 1 and rate < GAIN * (trials[-2].rate or 0.0):
            return Choice(best, f"{width} are not {GAIN - 1:.0%} faster", tuple(trials))
        best = width
        if trials[-1].seconds > TRIAL_SHARE * image_iterations / rate:
            return Choice(best, "a further trial would not pay", tuple(trials))
    return Choice(best, "there are no more", tuple(trials))


def _widths(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return [*(2**power for power in range(max(most - 1, 0).bit_length())), max(most, 1)]


def narrower(width: int, error: Exception, say: Callable[[str], None] = print) -> int:
    """Half of a width that turned out too wide while it ran, as where others use the device.

    Args:
      width: class batches on each device.
      error: what the device said.
      say: takes the line for people.

    Raises:
      InputError: where one class batch is too many.
    """
    if width == 1:
        raise InputError(ONE_TOO_MANY) from error
    say(
        f"synthesize: out of the device's memory with {width} class batches side by side; going on "
        f"with {width // 2} from what was saved last"
    )
    return width // 2


def choose(
    asked: int,
    program: rounds.Program,
    variables: Variables,
    batches: Sequence[ClassBatch],
    image_size: int,
    devices: Sequence[Any],
    *,
    sliced: bool = True,
    metrics: MetricsLog | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """The number of class batches that a device runs side by side.

    Args:
      asked: `synthesis.class_batches_per_device`.
      program: the compiled steps, of the mesh over `devices`; the run's own, so that what is
        compiled here need not be compiled again.
      variables: of the teacher.
      batches: that are left to do.
      image_size: S.
      devices: those of jax that the packs are split over.
      sliced: `synthesis.sliced`.
      metrics: gets what was found.
      say: takes the line for people.
    """
    if asked != AUTO:
        return asked
    if devices[0].platform == "cpu":
        # One class batch fills its cores: no network we tried was faster with 2 or 4.
        return 1
    choice = measured(program, variables, batches, image_size, devices, sliced)
    say(f"synthesize: {choice.describe()}")
    if metrics is not None:
        metrics.write("synthesize", **dataclasses.asdict(choice))
    return choice.width


def measured(
    program: rounds.Program,
    variables: Variables,
    batches: Sequence[ClassBatch],
    image_size: int,
    devices: Sequence[Any],
    sliced: bool = True,
) -> Choice:
    """`search` on the devices themselves; the arguments are those of `choose`."""
    longest = _most_alike(batches)
    runs = {}

    def memory(width: int) -> int:
        runs.clear()  # the arrays of the width before
        pack = packing.make_packs(longest[: width * len(devices)], len(longest), len(devices))[0]
        r = typical_round(pack)
        slots = pack.prefix(r) if sliced else pack.labels.shape[1]
        runs[width] = run = TrialRun(program, variables, pack, image_size, r, slots)
        return run.memory(len(devices))

    return search(
        -(-len(longest) // len(devices)),
        memory,
        lambda width: runs[width].rate(),
        memory_limit(devices[0]),
        sum(batch.image_iterations for batch in batches),
    )


def memory_limit(device: Any) -> float | None:
    """Bytes that programs may take of a device; None where it does not tell."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return MEMORY_SHARE * limit if limit else None


def typical_round(pack: Pack) -> int:
    """The round whose number of slots is nearest to the mean over the rounds."""
    prefixes = [pack.prefix(r) for r in range(pack.rounds)]
    return int(np.argmin(np.abs(np.asarray(prefixes) - np.mean(prefixes))))


def _most_alike(batches: Sequence[ClassBatch]) -> list[ClassBatch]:
    """The largest group of class batches that may share a pack: those of as many rounds."""
    groups: dict[int, list[ClassBatch]] = {}
    for batch in batches:
        groups.setdefault(batch.rounds, []).append(batch)
    return max(groups.values(), key=len)


class TrialRun:
    """Some steps of a pack, on noise.

    Args:
      program: the compiled steps.
      variables: of the teacher.
      pack: the class batches.
      image_size: S.
      r: the round that is tried.
      slots: the first of each class batch that the steps are taken with.
    """

    def __init__(
        self,
        program: rounds.Program,
        variables: Variables,
        pack: Pack,
        image_size: int,
        r: int,
        slots: int,
    ):
        self._program, self._variables, self._side = program, variables, image_size
        self._facts = pack.slots(r, slots)
        self._slots, self._total = slots, pack.labels.shape[1]
        self._rows = len(pack.labels)
        noise = np.random.default_rng(0).standard_normal(self._shape(slots), np.float32)
        self._state: State = synthesis.initial_state(jnp.asarray(noise))
        self._keys = pack.keys(jax.random.key(0))

    def memory(self, devices: int) -> int:
        """Bytes that the pack's widest round takes on each of the devices; compiles and runs once.

        The teacher, the program's temporaries, scaled from the typical round to all slots, and the
        state of the whole pack twice: a prefix is cut out of it and put back.
        """
        self.step(1)
        analysis = self._program.executables()[self._rows, self._slots].memory_analysis()
        temporaries = 0 if analysis is None else analysis.temp_size_in_bytes
        state = 3 * math.prod(self._shape(self._total)) * self._state.images.dtype.itemsize
        return round(
            tree_bytes(self._variables)
            + temporaries * self._total / self._slots
            + 2 * state / devices
        )

    def rate(self) -> float:
        """Image-iterations per second of all devices, the better of two measurements."""
        start = time.monotonic()
        self.step(1)
        steps = math.ceil(TIMED_SECONDS / max(time.monotonic() - start, 1e-6))
        steps = min(max(2, steps), MOST_STEPS)
        best = math.inf
        for _ in range(2):
            start = time.monotonic()
            self.step(steps)
            best = min(best, (time.monotonic() - start) / steps)
        return int(self._facts.active.sum()) / best

    def step(self, count: int) -> None:
        """Takes steps, at most as many a call as the program has, and waits for them."""
        most = self._program.steps_per_call
        metrics = None
        for first in range(0, count, most):
            steps = min(most, count - first)
            self._state, metrics = self._program(
                self._variables,
                self._state,
                self._facts,
                self._keys,
                0,
                np.full(steps, 0.01),
                np.full(steps, 0.5),
            )
        jax.block_until_ready((self._state, metrics))

    def _shape(self, slots: int) -> tuple[int, ...]:
        return (self._rows, slots, self._side, self._side, 3)
