"""synthesize: optimise the selected images against the teacher, class batch by class batch."""

import dataclasses
import itertools
import pathlib
import shutil
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core import packing, programs, rounds, synthesis
from delt_jax.core import schedule as sched
from delt_jax.core.packing import Pack
from delt_jax.core.schedule import ClassBatch
from delt_jax.core.synthesis import State
from delt_jax.data import specs
from delt_jax.data.image_source import ImageSource
from delt_jax.data.patches import initial_images
from delt_jax.data.selection import Selection, read_selection
from delt_jax.data.specs import DatasetSpec
from delt_jax.errors import InputError
from delt_jax.models.network import Network, load_network
from delt_jax.runtime import hosts
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.streams import numpy_seed, stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import matching, packing_width
from delt_jax.stages.finished_batches import FinishedBatches, SynthesizeResult
from delt_jax.stages.opening import describe, open_split
from delt_jax.stages.planning import Plan, make_plan

STEPS_PER_CALL = 100  # on accelerators: hides the dispatch, and 100 steps are well under a minute


@dataclasses.dataclass
class _Cost:
    """What a pack has cost so far; kept in its checkpoints."""

    seconds: np.ndarray  # float64 [rounds], without compiling
    compile_seconds: np.ndarray  # float64 []

    @classmethod
    def none(cls, rounds: int) -> "_Cost":
        return cls(np.zeros(rounds), np.zeros(()))


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
    return Synthesis.open(config, workdir).run()


class Synthesis:
    """One start of the stage: what is loaded once and used by every pack.

    Args:
      config: as for `run`.
      workdir: as for `run`, but only written to.
      network: the teacher.
      spec: the data set; reads its image size and statistics.
      source: its training images.
      selection: those of them that the synthesis starts from.

    Raises:
      InputError: for a schedule or statistics that cannot be.
    """

    def __init__(
        self,
        config: Any,
        workdir: WorkDir,
        network: Network,
        spec: DatasetSpec,
        source: ImageSource,
        selection: Selection,
    ):
        self.config, self.workdir, self.options = config, workdir, config.synthesis
        self.network, self.source, self.selection = network, source, selection
        self.image_size = spec.image_size
        self.plan: Plan = make_plan(config, len(self.source.class_names))
        self.statistics = specs.statistics(
            self.options.statistics, spec, (self.network.mean, self.network.std)
        )
        self.variables = matching.prepared(self.network.variables)
        self.mean, self.std = (np.asarray(values, np.float32) for values in self.statistics)
        self.finished = FinishedBatches(config, workdir, self.source, self.selection)
        self.checkpoints = workdir.synthesis / "checkpoints"
        self.metrics = MetricsLog(workdir.metrics_jsonl)

    @classmethod
    def open(cls, config: Any, workdir: WorkDir) -> "Synthesis":
        """That of a work directory, which has the teacher and selection.csv; see `run`."""
        network, spec = load_network(workdir.teacher), describe(config)
        source = open_split(config, spec, "train")
        selection = read_selection(workdir.selection_csv, source)
        if selection.ipc != config.ipc:
            raise InputError(
                f"{workdir.selection_csv}: {selection.ipc} images per class, expected "
                f"ipc = {config.ipc}"
            )
        return cls(config, workdir, network, spec, source, selection)

    def run(self) -> SynthesizeResult:
        """Makes what is missing; see the stage's `run`."""
        plan, crew = self.plan, hosts.current()
        under_way, untouched = crew.agree("class batches", self._remaining())
        own = [*crew.dealt(under_way), ("", crew.dealt(untouched))]
        own = [(folder, indices) for folder, indices in own if indices]
        if plan.schedule.iterations:
            if own:
                self._optimise(own)
        else:
            for _, indices in own:
                for index in indices:
                    batch = plan.batches[index]
                    self.finished.write(index, batch, self._initial_pixels(batch))
        crew.wait("class batches done")
        result = self.finished.finish(plan, self.network, (self.mean, self.std))
        if crew.is_first:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        return result

    def _remaining(self) -> tuple[list[tuple[str, list[int]]], list[int]]:
        """Class batches that are not done: under way, by their checkpoints' folder; and untouched.

        Where several hold a batch, as after a run on other devices, the furthest one does.
        """
        done = self.finished.entries()
        remaining = [index for index in range(len(self.plan.batches)) if index not in done]
        furthest: dict[int, tuple[int, str]] = {}
        for note in sorted(self.checkpoints.glob("*.json")):
            with Checkpointer(self.checkpoints / note.stem) as checkpointer:
                step = checkpointer.latest_step()
            for index in self.workdir.read_json(note) if step else ():
                if index in remaining:
                    furthest[index] = max(furthest.get(index, (0, "")), (step, note.stem))
        under_way: dict[str, list[int]] = {}
        for index, (_, folder) in sorted(furthest.items()):
            under_way.setdefault(folder, []).append(index)
        return list(under_way.items()), [index for index in remaining if index not in furthest]

    def _optimise(self, share: Sequence[tuple[str, list[int]]]) -> None:
        """Optimises this host's share: folders of checkpoints, and the class batches in each."""
        plan, crew = self.plan, hosts.current()
        mesh = device_mesh(rounds.CLASS_BATCHES)
        devices = mesh.size if mesh else 1
        program = rounds.Program(
            matching.method(
                self.network.module,
                self.image_size,
                self.network.variables,
                self.statistics,
                self.options,
            ),
            mesh,
            self.options.steps_per_call or programs.steps_per_call(STEPS_PER_CALL),
        )
        width = devices * packing_width.choose(
            self.options.class_batches_per_device,
            program,
            self.variables,
            [plan.batches[index] for _, indices in share for index in indices],
            self.image_size,
            jax.local_devices(),
            sliced=self.options.sliced,
            metrics=self.metrics,
        )
        packs: list[tuple[str, Pack]] = []
        for folder, indices in share:
            batches = [plan.batches[index] for index in indices]
            made = packing.make_packs(batches, width, devices, indices)
            packs += [(folder, pack) for pack in made]
        total, what = plan.image_iterations, "synthesize"
        to_do = sum(batch.image_iterations for _, pack in packs for batch in pack.batches)
        if crew.count > 1:
            total, what = to_do, f"synthesize, host {crew.index} of {crew.count}"
        # Files are read and written while the devices work on another pack.
        with (
            Progress(total, what, "image-iterations", total - to_do) as progress,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="files") as files,
        ):
            images, written = None, None
            for (folder, pack), following in itertools.zip_longest(packs, packs[1:]):
                start = self._restore(folder, pack) if folder else None
                if start is None:
                    images = images or files.submit(self._initial_stack, pack)
                    state = synthesis.initial_state(jnp.asarray(images.result()))
                    start = 0, state, _Cost.none(pack.rounds)
                images = None
                if following and not following[0]:
                    images = files.submit(self._initial_stack, following[1])
                finished = self._run_pack(program, pack, start, progress)
                if written:
                    written.result()  # raises what went wrong there
                written = files.submit(self._store, pack, *finished)
            if written:
                written.result()

    def _run_pack(
        self,
        program: rounds.Program,
        pack: Pack,
        start: tuple[int, State, _Cost],
        progress: Progress,
    ) -> tuple[np.ndarray, _Cost, int]:
        """Optimises a pack; returns its images, what they cost and the image-iterations done."""
        options, crew = self.options, hosts.current()
        rates = sched.learning_rates(options.learning_rate, pack.iterations)
        crops = sched.min_crop_scales(
            options.crop_curriculum, options.milestone, pack.iterations, options.min_crop
        )
        first, state, cost = start
        folder = self._folder(pack)
        with Checkpointer(folder) as checkpointer:
            done = pack.image_iterations(first)
            progress.advance(done)
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
                done += count
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
                    overdue = now - saved > options.checkpoint_minutes * 60
                    if (overdue or crew.is_broken) and chunk.next < len(rates):
                        self.workdir.write_json(folder.with_suffix(".json"), pack.indices)
                        kept = self._checkpoint(pack, chunk.state(), cost)
                        checkpointer.save(chunk.next, kept)
                        saved = time.monotonic()
                    crew.check()
                else:
                    progress.advance(count)
                if chunk.next == len(rates):
                    state = chunk.state()
        return np.asarray(state.images), cost, done

    def _folder(self, pack: Pack) -> pathlib.Path:
        """Where a pack's checkpoints are; beside it, with .json, the numbers of its batches."""
        name = f"{pack.indices[0]:05d}-{zlib.crc32(repr(pack.indices).encode()):08x}"
        return self.checkpoints / name

    def _restore(self, folder: str, pack: Pack) -> tuple[int, State, _Cost] | None:
        """Iteration, state and cost of a pack, from the last checkpoint of a folder that is whole.

        The folder is that of a pack with the same class batches, or more.
        """
        held = self.workdir.read_json(self.checkpoints / f"{folder}.json")
        (whole,) = packing.make_packs([self.plan.batches[i] for i in held], len(held))
        empty = State(*(jnp.asarray(self._zeros(whole)) for _ in State._fields))
        with Checkpointer(self.checkpoints / folder) as checkpointer:
            found = checkpointer.restore_latest(
                self._checkpoint(whole, empty, _Cost.none(pack.rounds))
            )
        if found is None:
            return None
        first, tree = found
        print(f"synthesize: going on from iteration {first:,} of {pack.iterations:,}")
        rows = [held.index(index) for index in pack.indices]
        kept = {
            name: [
                leaf[row][: len(batch.slots)] for row, batch in zip(rows, pack.batches, strict=True)
            ]
            for name, leaf in tree["state"].items()
        }
        # Stacked anew, because the state is donated: it must not share memory with tree.
        state = State(*(jnp.asarray(pack.stack(kept[name])) for name in State._fields))
        share = len(rows) / len(held)  # of what several packs may go on from
        seconds, compiling = tree["cost"]["seconds"], tree["cost"]["compile_seconds"]
        return first, state, _Cost(share * seconds, share * compiling)

    def _checkpoint(self, pack: Pack, state: State, cost: _Cost) -> dict[str, Any]:
        """What is kept of a pack: none of its padding, which depends on the devices."""
        size = max(len(batch.slots) for batch in pack.batches)
        kept = jax.tree.map(lambda leaf: leaf[: len(pack.batches), :size], state)
        return {"state": kept._asdict(), "cost": dataclasses.asdict(cost)}

    def _zeros(self, pack: Pack) -> np.ndarray:
        return np.zeros((*pack.labels.shape, self.image_size, self.image_size, 3), np.float32)

    def _initial_pixels(self, batch: ClassBatch) -> np.ndarray:
        """What a class batch begins as, uint8."""
        return initial_images(self.source, self.selection, self.image_size, batch.slots)

    def _initial_stack(self, pack: Pack) -> np.ndarray:
        """What a pack begins as: normalised, float32."""
        initial = self._noise if self.options.initial == "noise" else self._initial_images
        return pack.stack([initial(batch) for batch in pack.batches])

    def _initial_images(self, batch: ClassBatch) -> np.ndarray:
        """What a class batch of real images begins as, normalised, float32."""
        pixels = self._initial_pixels(batch).astype(np.float32) / np.float32(255)
        return (pixels - self.mean) / self.std

    def _noise(self, batch: ClassBatch) -> np.ndarray:
        """Standard normal, float32: a slot begins as the same noise in whatever batch it is."""
        shape = (self.image_size, self.image_size, 3)
        seeds = [numpy_seed(self.config.seed, "noise", int(slot)) for slot in batch.slots]
        draws = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
        return np.stack(draws)

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

    def _store(self, pack: Pack, images: np.ndarray, cost: _Cost, done: int) -> None:
        """Writes the finished images of a pack, then says so in synthesis/batches."""
        promised = sum(batch.image_iterations for batch in pack.batches)
        assert done == promised, (pack.indices, done, promised)
        share = 1 / len(pack.batches)
        for index, batch, normalised in zip(
            pack.indices, pack.batches, pack.split(images), strict=True
        ):
            pixels = np.clip(normalised * self.std + self.mean, 0, 1)
            seconds = cost.seconds * share, float(cost.compile_seconds) * share
            self.finished.write(index, batch, pixels, *seconds)
        folder = self._folder(pack)
        folder.with_suffix(".json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
