"""Class batches that are done: their images in distilled/, an entry for each in synthesis/."""

import collections
import dataclasses
from typing import Any

import numpy as np

from delt_jax.core.schedule import ClassBatch
from delt_jax.data.image_source import ImageSource
from delt_jax.data.selection import Selection
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.models.network import Network
from delt_jax.runtime import hosts
from delt_jax.runtime.mesh import describe_devices
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.planning import Plan


@dataclasses.dataclass(frozen=True)
class SynthesizeResult:
    """What the stage did, also in synthesis/schedule.json.

    Attributes:
      image_iterations: done, over all starts of the run.
      promised: what the schedule said.
      constant: what constant iterations would have taken.
      seconds: of optimisation, compiling included, on the host that took longest.
    """

    image_iterations: int
    promised: int
    constant: int
    seconds: float


class FinishedBatches:
    """What is done of a synthesis; every host adds to it, and one writes the manifest.

    Args:
      config: reads `method`, `method_changes`, `ipc`, `data.name`, `synthesis` and `distilled`.
      workdir: holds distilled/ and synthesis/.
      source: the images that the synthesis starts from.
      selection: which of them.
    """

    def __init__(self, config: Any, workdir: WorkDir, source: ImageSource, selection: Selection):
        self._config, self._workdir = config, workdir
        self._source, self._selection = source, selection
        self._folder = workdir.synthesis / "batches"

    def entries(self, expected: int = 0) -> dict[int, dict[str, Any]]:
        """The entry of each class batch that is done, by its number, in order.

        Args:
          expected: how many there are; waits for those that other hosts wrote a moment ago.
        """
        paths = hosts.seen(
            lambda: sorted(self._folder.glob("*.json")),
            lambda found: len(found) >= expected,
            f"{self._folder}, {expected} class batches",
        )
        return {int(path.stem): self._workdir.read_json(path) for path in paths}

    def write(
        self,
        index: int,
        batch: ClassBatch,
        pixels: np.ndarray,
        seconds: np.ndarray | tuple[()] = (),
        compile_seconds: float = 0.0,
    ) -> None:
        """Writes the images of a class batch, in [0, 1] or uint8, and what they cost by round."""
        distilled = self._config.distilled
        records = write_images(
            self._workdir.distilled,
            pixels,
            self._records(batch),
            format=distilled.format,
            quality=distilled.quality,
            rounding=distilled.rounding,
            naming=distilled.naming,
            class_names=self._source.class_names,
        )
        entry = {
            "image_iterations": batch.image_iterations,
            "host": hosts.current().index,
            "seconds_by_round": list(seconds),
            "seconds_compile": compile_seconds,
            "records": [dataclasses.asdict(record) for record in records],
        }
        self._workdir.write_json(self._folder / f"{index:05d}.json", entry)

    def _records(self, batch: ClassBatch) -> list[ImageRecord]:
        if self._config.synthesis.initial == "noise":
            origins = [(("",), ())] * len(batch.slots)
        else:
            origins = self._selection.origins(self._source, batch.slots)
        return [
            ImageRecord(
                class_index=int(label),
                class_name=self._source.class_names[label],
                slot=int(rank),
                join_round=int(join),
                iterations=int(leave - join) * batch.round_iterations,
                source=names[0],
                sources=names if len(names) > 1 else (),
                boxes=boxes,
            )
            for label, rank, join, leave, (names, boxes) in zip(
                batch.labels, batch.ranks, batch.join, batch.leave, origins, strict=True
            )
        ]

    def finish(
        self, plan: Plan, network: Network, statistics: tuple[np.ndarray, np.ndarray]
    ) -> SynthesizeResult:
        """What a finished synthesis did; the first host writes its manifest and schedule.json.

        Args:
          plan: what was promised.
          network: the teacher.
          statistics: (mean, std) that the images were normalised with.
        """
        entries = list(self.entries(len(plan.batches)).values())
        seconds = collections.Counter()
        for entry in entries:
            seconds[entry["host"]] += sum(entry["seconds_by_round"]) + entry["seconds_compile"]
        result = SynthesizeResult(
            sum(entry["image_iterations"] for entry in entries),
            plan.image_iterations,
            plan.constant_image_iterations,
            max(seconds.values()),
        )
        if hosts.current().is_first:
            self._write_manifest(entries, network, statistics)
            self._write_schedule(entries, plan, result)
        return result

    def _write_manifest(
        self,
        entries: list[dict[str, Any]],
        network: Network,
        statistics: tuple[np.ndarray, np.ndarray],
    ) -> None:
        config = self._config
        records = [ImageRecord(**record) for entry in entries for record in entry["records"]]
        header = {
            "method": self._method_name(),
            "method_changes": list(config.method_changes),
            "data": config.data.name,
            "ipc": config.ipc,
            "teacher": {"arch": network.arch, "top1": network.top1},
            "mean": statistics[0].tolist(),
            "std": statistics[1].tolist(),
            "synthesis": config.synthesis.to_dict(),
        }
        write_manifest(self._workdir.distilled, records, header)

    def _write_schedule(
        self, entries: list[dict[str, Any]], plan: Plan, result: SynthesizeResult
    ) -> None:
        by_round = np.zeros(len(plan.batches_per_round))
        for entry in entries:
            by_round[: len(entry["seconds_by_round"])] += entry["seconds_by_round"]
        iterations = plan.schedule.round_iterations * np.array(plan.batches_per_round, int)
        self._workdir.write_json(
            self._workdir.schedule_json,
            {
                **plan.as_record(self._config.synthesis),
                "image_iterations_done": result.image_iterations,
                "seconds": result.seconds,
                "seconds_compile": sum(entry["seconds_compile"] for entry in entries),
                "seconds_per_iteration_by_round": (by_round / iterations).tolist(),
                "device": describe_devices(),
            },
        )

    def _method_name(self) -> str:
        """Returns the name that config.json, results.json and the report have too."""
        return self._config.method
