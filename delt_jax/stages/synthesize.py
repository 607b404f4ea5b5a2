"""synthesize: optimise the selected images against the teacher, class batch by class batch."""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core import packing, rounds, synthesis
from delt_jax.core import schedule as sched
from delt_jax.core.packing import Pack
from delt_jax.core.schedule import ClassBatch
from delt_jax.core.synthesis import State
from delt_jax.data import specs
from delt_jax.data.image_source import ImageSource
from delt_jax.data.patches import initial_images
from delt_jax.data.selection import read_selection
from delt_jax.errors import InputError
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.models.network import Network, load_network
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import matching
from delt_jax.stages.opening import describe, open_split
from delt_jax.stages.planning import Plan, make_plan

STEPS_PER_CALL = 100  # on accelerators: hides the dispatch, and 100 steps are well under a minute


@dataclasses.dataclass(frozen=True)
class SynthesizeResult:
    """What the stage did, also in synthesis/schedule.json.

    Attributes:
      image_iterations: done, over all starts of the run.
      promised: what the schedule said.
      constant: what constant iterations would have taken.
      seconds: of optimisation, compiling included.
    """

    image_iterations: int
    promised: int
    constant: int
    seconds: float


@dataclasses.dataclass
class _Cost:
    """What a pack has cost so far; kept in its checkpoints."""

    image_iterations: np.ndarray  # int64 []
    seconds: np.ndarray  # float64 [rounds], without compiling
    compile_seconds: np.ndarray  # float64 []

    @classmethod
    def none(cls, rounds: int) -> "_Cost":
        return cls(np.zeros((), np.int64), np.zeros(rounds), np.zeros(()))


def run(config: Any, workdir: WorkDir) -> SynthesizeResult:
    """Makes the distilled images, or finishes making them; 0 iterations leave the initial ones.

    Class batches that are done are kept (`synthesis/batches`), the pack under way goes on from its
    last checkpoint (`synthesis/checkpoints`).

    Args:
      config: reads `seed`, `ipc`, `data`, `synthesis`, `distilled` and, for its name, `select`.
      workdir: reads the teacher and selection.csv; writes distilled/ and synthesis/.

    Raises:
      InputError: where the config, selection and data do not fit together, or the loss stops being
        finite (class batch, round and iteration are named).
    """
    return _Synthesis(config, workdir).run()


class _Synthesis:
    """One start of the stage: what is loaded once and used by every pack."""

    def __init__(self, config: Any, workdir: WorkDir):
        self.config, self.workdir, self.options = config, workdir, config.synthesis
        self.network: Network = load_network(workdir.teacher)
        spec = describe(config)
        self.image_size = spec.image_size
        self.source: ImageSource = open_split(config, spec, "train")
        self.selection = read_selection(workdir.selection_csv, self.source)
        if self.selection.ipc != config.ipc:
            raise InputError(
                f"{workdir.selection_csv}: {self.selection.ipc} images per class, expected "
                f"ipc = {config.ipc}"
            )
        self.plan: Plan = make_plan(config, len(self.source.class_names))
        mean, std = specs.statistics(
            self.options.statistics, spec, (self.network.mean, self.network.std)
        )
        self.variables = matching.prepared(self.network.variables)
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.low = tuple(-m / s for m, s in zip(mean, std, strict=True))
        self.high = tuple((1 - m) / s for m, s in zip(mean, std, strict=True))
        self.batch_folder = workdir.synthesis / "batches"
        self.metrics = MetricsLog(workdir.metrics_jsonl)

    def run(self) -> SynthesizeResult:
        plan, options = self.plan, self.options
        done = self._done()
        remaining = [index for index in range(len(plan.batches)) if index not in done]
        if not plan.schedule.iterations:
            for index in remaining:
                self._write(index, plan.batches[index], self._initial_pixels(plan.batches[index]))
        elif remaining:
            mesh = device_mesh(rounds.CLASS_BATCHES)
            devices = mesh.size if mesh else 1
            packs = packing.make_packs(
                [plan.batches[index] for index in remaining],
                options.class_batches_per_device * devices,
                devices,
            )
            packs = [
                dataclasses.replace(pack, indices=tuple(remaining[i] for i in pack.indices))
                for pack in packs
            ]
            program = rounds.Program(self._method(), mesh, self._steps_per_call())
            finished = sum(plan.batches[index].image_iterations for index in done)
            total = plan.image_iterations
            with Progress(total, "synthesize", "image-iterations", finished) as progress:
                for pack in packs:
                    self._run_pack(program, pack, progress)
        return self._finish()

    def _method(self) -> synthesis.Method:
        options, network = self.options, self.network
        dtype = None if options.compute_dtype == "float32" else jnp.dtype(options.compute_dtype)
        return synthesis.Method(
            forward=matching.matching_forward(network.module, dtype),
            objective=matching.matching_objective(
                network.module,
                self.image_size,
                network.variables,
                options.bn_weight,
                options.first_bn_multiplier,
            ),
            draw_view=synthesis.view_drawer(
                self.image_size,
                options.max_crop,
                options.flip,
                options.jitter,
                options.view_per_image,
            ),
            low=self.low,
            high=self.high,
            adam=synthesis.Adam(
                options.beta1, options.beta2, options.epsilon, options.fresh_bias_correction
            ),
            departed_drift=options.departed_drift,
        )

    def _steps_per_call(self) -> int:
        if self.options.steps_per_call:
            return self.options.steps_per_call
        return 1 if jax.default_backend() == "cpu" else STEPS_PER_CALL

    def _run_pack(self, program: rounds.Program, pack: Pack, progress: Progress) -> None:
        """Optimises a pack from its last checkpoint, or from the real images, and stores it."""
        options = self.options
        rates = sched.learning_rates(options.learning_rate, pack.iterations)
        crops = sched.min_crop_scales(
            options.crop_curriculum, options.milestone, pack.iterations, options.min_crop
        )
        name = f"batches_{pack.indices[0]:05d}-{pack.indices[-1]:05d}_of_{len(pack.labels)}"
        folder = self.workdir.synthesis / "checkpoints" / name
        with Checkpointer(folder) as checkpointer:
            first, state, cost = self._restore(checkpointer, pack)
            progress.advance(int(cost.image_iterations))
            saved = checked = time.monotonic()
            keys = pack.keys(stream(self.config.seed, "synthesis"))
            compiled, pending = program.compile_seconds, []
            for chunk in rounds.optimise(
                program,
                self.variables,
                pack,
                state,
                keys,
                rates,
                crops,
                first,
                options.sliced,
            ):
                count = pack.active_count(chunk.round) * (chunk.next - chunk.first)
                cost.image_iterations += count
                pending.append(chunk)
                ends_round = chunk.next % pack.round_iterations == 0
                if ends_round or chunk.next - pending[0].first >= options.log_every:
                    loss = self._check(pack, pending)  # waits for the device
                    pending = []
                    now, compiling = time.monotonic(), program.compile_seconds - compiled
                    cost.seconds[chunk.round] += now - checked - compiling
                    cost.compile_seconds += compiling
                    checked, compiled = now, program.compile_seconds
                    progress.advance(count, loss=loss)
                    if now - saved > options.checkpoint_minutes * 60 and chunk.next < len(rates):
                        self._save(checkpointer, chunk.next, chunk.state(), cost)
                        saved = time.monotonic()
                else:
                    progress.advance(count)
                if chunk.next == len(rates):
                    state = chunk.state()
        self._store(pack, np.asarray(state.images), cost)
        shutil.rmtree(folder, ignore_errors=True)

    def _restore(self, checkpointer: Checkpointer, pack: Pack) -> tuple[int, State, _Cost]:
        like = self._checkpoint(
            State(*(jnp.zeros(self._shape(pack)) for _ in State._fields)),
            _Cost.none(pack.rounds),
        )
        found = checkpointer.restore_latest(like)
        if found is None:
            images = [self._initial_images(batch) for batch in pack.batches]
            return (
                0,
                synthesis.initial_state(jnp.asarray(pack.stack(images))),
                _Cost.none(pack.rounds),
            )
        first, tree = found
        print(f"synthesize: going on from iteration {first:,} of {pack.iterations:,}")
        # jnp.array, not asarray: the state is donated, so it must not share the checkpoint's
        # memory.
        state = State(*(jnp.array(tree["state"][name]) for name in State._fields))
        return first, state, _Cost(**{name: np.array(tree["cost"][name]) for name in tree["cost"]})

    def _save(self, checkpointer: Checkpointer, step: int, state: State, cost: _Cost) -> None:
        checkpointer.save(step, self._checkpoint(state, cost))

    def _checkpoint(self, state: State, cost: _Cost) -> dict[str, Any]:
        return {"state": state._asdict(), "cost": dataclasses.asdict(cost)}

    def _shape(self, pack: Pack) -> tuple[int, ...]:
        return (*pack.labels.shape, self.image_size, self.image_size, 3)

    def _initial_pixels(self, batch: ClassBatch) -> np.ndarray:
        """What a class batch begins as, uint8."""
        return initial_images(self.source, self.selection, self.image_size, batch.slots)

    def _initial_images(self, batch: ClassBatch) -> np.ndarray:
        """The same normalised, float32."""
        pixels = self._initial_pixels(batch).astype(np.float32) / np.float32(255)
        return (pixels - self.mean) / self.std

    def _check(self, pack: Pack, chunks: Sequence[rounds.Chunk]) -> float:
        """Logs the losses of some chunks of one round; stops the run where one is not finite."""
        losses = np.concatenate([np.asarray(chunk.metrics["loss"]) for chunk in chunks])
        losses = losses[:, : len(pack.batches)]
        if not np.isfinite(losses).all():
            offset, row = np.argwhere(~np.isfinite(losses))[0]
            raise InputError(
                f"loss is {losses[offset, row]} in class batch {pack.indices[row]}, round "
                f"{chunks[0].round}, iteration {chunks[0].first + offset}; expected a finite one: "
                "lower synthesis.learning_rate or check the teacher's weights"
            )
        last = {name: np.asarray(value[-1]) for name, value in chunks[-1].metrics.items()}
        for row, index in enumerate(pack.indices):
            self.metrics.write(
                "synthesize",
                class_batch=index,
                round=chunks[-1].round,
                iteration=chunks[-1].next,
                active=int(pack.batches[row].active(chunks[-1].round).sum()),
                loss=last["loss"][row],
                loss_ce=last["loss_ce"][row],
                loss_bn=last["loss_bn"][row].sum(),
            )
        return float(losses[-1].mean())

    def _store(self, pack: Pack, images: np.ndarray, cost: _Cost) -> None:
        """Writes the finished images of a pack, then says so in synthesis/batches."""
        promised = sum(batch.image_iterations for batch in pack.batches)
        assert cost.image_iterations == promised, (pack.indices, cost.image_iterations, promised)
        share = 1 / len(pack.batches)
        for index, batch, normalised in zip(
            pack.indices, pack.batches, pack.split(images), strict=True
        ):
            pixels = np.clip(normalised * self.std + self.mean, 0, 1)
            seconds = cost.seconds * share, float(cost.compile_seconds) * share
            self._write(index, batch, pixels, *seconds)

    def _write(
        self,
        index: int,
        batch: ClassBatch,
        pixels: np.ndarray,
        seconds: np.ndarray | tuple[()] = (),
        compile_seconds: float = 0.0,
    ) -> None:
        """Writes the images of a class batch, in [0, 1] or uint8, and what they cost by round."""
        distilled = self.config.distilled
        records = write_images(
            self.workdir.distilled,
            pixels,
            self._records(batch),
            format=distilled.format,
            quality=distilled.quality,
            rounding=distilled.rounding,
            naming=distilled.naming,
            class_names=self.source.class_names,
        )
        entry = {
            "image_iterations": batch.image_iterations,
            "seconds_by_round": list(seconds),
            "seconds_compile": compile_seconds,
            "records": [dataclasses.asdict(record) for record in records],
        }
        self.workdir.write_json(self.batch_folder / f"{index:05d}.json", entry)

    def _records(self, batch: ClassBatch) -> list[ImageRecord]:
        origins = self.selection.origins(self.source, batch.slots)
        return [
            ImageRecord(
                class_index=int(label),
                class_name=self.source.class_names[label],
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

    def _method_name(self) -> str:
        """What the report calls it, from what is done."""
        options, select = self.options, self.config.select
        if not options.iterations:
            return "RDED" if select.crops and select.mode == "top" else "selection alone"
        return "EarlyLate" if options.early_late else "constant iterations"

    def _done(self) -> dict[int, dict[str, Any]]:
        return {
            int(path.stem): self.workdir.read_json(path)
            for path in sorted(self.batch_folder.glob("*.json"))
        }

    def _finish(self) -> SynthesizeResult:
        """Manifest and schedule.json, from what the class batches left."""
        plan, config, network = self.plan, self.config, self.network
        entries = list(self._done().values())
        records = [ImageRecord(**record) for entry in entries for record in entry["records"]]
        header = {
            "method": self._method_name(),
            "data": config.data.name,
            "ipc": config.ipc,
            "teacher": {"arch": network.arch, "top1": network.top1},
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "synthesis": config.synthesis.to_dict(),
        }
        write_manifest(self.workdir.distilled, records, header)
        done = sum(entry["image_iterations"] for entry in entries)
        compiling = sum(entry["seconds_compile"] for entry in entries)
        batch = plan.batches[0]
        by_round = np.zeros(max(one.rounds for one in plan.batches))
        for entry in entries:
            by_round[: len(entry["seconds_by_round"])] += entry["seconds_by_round"]
        result = SynthesizeResult(
            done, plan.image_iterations, plan.constant_image_iterations, by_round.sum() + compiling
        )
        iterations = batch.round_iterations * len(plan.batches)
        self.workdir.write_json(
            self.workdir.schedule_json,
            {
                **plan.as_record(self.options),
                "image_iterations_done": result.image_iterations,
                "seconds": result.seconds,
                "seconds_compile": compiling,
                "seconds_per_iteration_by_round": (by_round / iterations).tolist(),
                "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            },
        )
        shutil.rmtree(self.workdir.synthesis / "checkpoints", ignore_errors=True)
        return result
