"""What synthesis will do, from the config alone: class batches, rounds and their cost."""

import dataclasses
from typing import Any

import numpy as np

from delt_jax.core import schedule as sched
from delt_jax.core.schedule import ClassBatch, Schedule
from delt_jax.errors import InputError
from delt_jax.runtime.streams import numpy_seed
from delt_jax.stages import options as table

MOST_ROUNDS = 10_000  # each is planned by itself; useful are as many as a class has images


@dataclasses.dataclass(frozen=True)
class Plan:
    """A synthesis on paper.

    Attributes:
      schedule: of the images of a class.
      batches: the class batches, in order.
      num_classes: k.
    """

    schedule: Schedule
    batches: tuple[ClassBatch, ...]
    num_classes: int

    @property
    def image_iterations(self) -> int:
        """What the run promises to do."""
        return sum(batch.image_iterations for batch in self.batches)

    @property
    def constant_image_iterations(self) -> int:
        """What constant iterations would do."""
        return sched.constant_image_iterations(self.schedule, self.num_classes)

    @property
    def saved_share(self) -> float:
        """Share that the schedule saves against constant iterations."""
        return sched.saved_share(self.image_iterations, self.constant_image_iterations)

    def describe(self) -> str:
        """One line for people."""
        schedule, done = self.schedule, self.image_iterations
        if not schedule.iterations:
            images = self.num_classes * schedule.ipc
            return f"{images:,} images as they were selected: no iterations, no synthesis"
        saved = (
            f"{self.saved_share:.1%} saved against {self.constant_image_iterations:,}"
            if done < self.constant_image_iterations
            else "constant iterations, nothing saved"
        )
        return (
            f"{self.num_classes * schedule.ipc:,} images in {len(self.batches):,} class "
            f"batch{'es' if len(self.batches) > 1 else ''}, {schedule.rounds} rounds of "
            f"{schedule.round_iterations} iterations: {done:,} image-iterations ({saved})"
        )

    def as_record(self, options: Any) -> dict[str, Any]:
        """What synthesis/schedule.json says of the plan.

        Args:
          options: `config.synthesis`; reads `learning_rate`, `crop_curriculum`, `milestone` and
            `min_crop`.
        """
        batch = self._longest
        rates = sched.learning_rates(options.learning_rate, batch.iterations)
        crops = sched.min_crop_scales(
            options.crop_curriculum, options.milestone, batch.iterations, options.min_crop
        )
        thin = slice(None, None, max(1, batch.iterations // 200))
        return {
            "class_batches": len(self.batches),
            "slots_per_class": self.schedule.ipc,
            "rounds": batch.rounds,
            "round_iterations": batch.round_iterations,
            "iterations": batch.iterations,
            "join_rounds": self._join_rounds(),
            "image_iterations": self.image_iterations,
            "constant_image_iterations": self.constant_image_iterations,
            "class_batches_per_round": self.batches_per_round,
            "active_per_round": self._active_per_round(),
            "learning_rate": rates[thin].tolist(),
            "min_crop": crops[thin].tolist(),
        }

    @property
    def batches_per_round(self) -> list[int]:
        """How many class batches have each round; fewer have the later ones of unequal batches."""
        return [
            sum(r < batch.rounds for batch in self.batches) for r in range(self._longest.rounds)
        ]

    @property
    def _longest(self) -> ClassBatch:
        """The first of the class batches with the most rounds."""
        return max(self.batches, key=lambda batch: batch.rounds)

    def _active_per_round(self) -> list[float]:
        """Slots of a class batch that are active in each round, a mean over those that have it."""
        return [
            sum(int(batch.active(r).sum()) for batch in self.batches if r < batch.rounds) / count
            for r, count in enumerate(self.batches_per_round)
        ]

    def _join_rounds(self) -> list[int]:
        """When the images of a class that is optimised for all rounds join, by rank."""
        longest = self._longest
        label = longest.labels[np.argmax(longest.leave)]
        joins = {}
        for batch in self.batches:
            own = batch.labels == label
            joins |= dict(zip(batch.ranks[own].tolist(), batch.join[own].tolist(), strict=True))
        return [join for _, join in sorted(joins.items())]


def make_plan(config: Any, num_classes: int) -> Plan:
    """Plans the synthesis of a config.

    Args:
      config: reads `ipc`, `seed` and `synthesis.{iterations,round_iterations,early_late,
        min_iterations,class_batch,layout,initial,crop_curriculum,milestone}`.
      num_classes: k.

    Raises:
      InputError: for an impossible schedule, before anything is computed.
    """
    options = config.synthesis
    table.check(options, "synthesis")
    try:
        schedule = Schedule(
            ipc=config.ipc,
            iterations=options.iterations,
            round_iterations=options.round_iterations,
            early_late=options.early_late,
            min_iterations=options.min_iterations,
        )
    except InputError as error:
        raise InputError(f"synthesis.{error}") from None
    if schedule.rounds > MOST_ROUNDS:
        raise InputError(
            f"synthesis.round_iterations: got {options.round_iterations}, which cuts "
            f"synthesis.iterations {options.iterations} into {schedule.rounds:,} rounds; expected "
            f"at most {MOST_ROUNDS:,} rounds"
        )
    if not 0 < options.min_crop <= options.max_crop <= 1:
        raise InputError(
            f"synthesis.min_crop, max_crop: got {options.min_crop}, {options.max_crop}, expected "
            "0 < min_crop <= max_crop <= 1"
        )
    if options.initial == "noise" and not options.iterations:
        raise InputError(
            "synthesis.initial 'noise' with synthesis.iterations 0: nothing would be made; "
            "expected 'real' or iterations"
        )
    rounds = sched.class_rounds(schedule, num_classes, numpy_seed(config.seed, "class_rounds"))
    batches = sched.class_batches(
        schedule, num_classes, options.class_batch, rounds, options.layout
    )
    return Plan(schedule, tuple(batches), num_classes)
