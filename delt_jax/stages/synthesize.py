"""synthesize: optimise the selected images against the teacher, class batch by class batch."""

import itertools
import time
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
from delt_jax.runtime import faults, hosts, interruption
from delt_jax.runtime.mesh import device_mesh, local_devices
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.save_points import SavePoints
from delt_jax.runtime.streams import numpy_seed, stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import matching, packing_width
from delt_jax.stages.finished_batches import FinishedBatches, SynthesizeResult
from delt_jax.stages.opening import describe, open_split
from delt_jax.stages.pack_checkpoints import Cost, PackCheckpointer, PackCheckpoints, Share
from delt_jax.stages.planning import Plan, make_plan

STEPS_PER_CALL = 100  # on accelerators: hides the dispatch, and 100 steps are well under a minute


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
        self.checkpoints = PackCheckpoints(workdir, self.plan, self.image_size)
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
            self.checkpoints.discard_all()
        return result

    def _remaining(self) -> tuple[Share, list[int]]:
        """Class batches that are not done: under way, by checkpoints' folder; and untouched."""
        done = self.finished.entries()
        remaining = [index for index in range(len(self.plan.batches)) if index not in done]
        under_way = self.checkpoints.under_way(remaining)
        held = {index for _, indices in under_way for index in indices}
        return under_way, [index for index in remaining if index not in held]

    def _optimise(self, share: Share) -> None:
        """Optimises this host's share; side by side as many as the devices' memory holds."""
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
        own = [index for _, indices in share for index in indices]
        width = packing_width.choose(
            self.options.class_batches_per_device,
            program,
            self.variables,
            [self.plan.batches[index] for index in own],
            self.image_size,
            local_devices(),
            sliced=self.options.sliced,
            metrics=self.metrics,
        )
        width = min(width, -(-len(own) // devices))
        while True:
            try:
                with interruption.held_back():
                    self._run_packs(program, self._packs(share, width, devices))
                return
            except jax.errors.JaxRuntimeError as error:
                if not faults.is_out_of_device_memory(error):
                    raise
                width = packing_width.narrower(width, error)
            self.metrics.write("synthesize", width=width, why="the wider ones ran out of memory")
            under_way, untouched = self._remaining()
            share = [(folder, [i for i in held if i in own]) for folder, held in under_way]
            share.append(("", [i for i in untouched if i in own]))

    def _packs(self, share: Share, width: int, devices: int) -> list[tuple[str, Pack]]:
        """Packs of at most `width` class batches a device, and the checkpoints of each."""
        packs: list[tuple[str, Pack]] = []
        for folder, indices in share:
            batches = [self.plan.batches[index] for index in indices]
            made = packing.make_packs(batches, width * devices, devices, indices)
            packs += [(folder, pack) for pack in made]
        return packs

    def _run_packs(self, program: rounds.Program, packs: list[tuple[str, Pack]]) -> None:
        """Optimises packs one after another."""
        crew = hosts.current()
        total, what = self.plan.image_iterations, "synthesize"
        to_do = sum(batch.image_iterations for _, pack in packs for batch in pack.batches)
        if crew.count > 1:
            total, what = to_do, f"synthesize, host {crew.index} of {crew.count}"
        points = SavePoints(self.config.checkpoint_minutes)
        # Files are read and written while the devices work on another pack.
        with (
            Progress(total, what, "image-iterations", total - to_do) as progress,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="files") as files,
        ):
            images, written = None, None
            for (folder, pack), following in itertools.zip_longest(packs, packs[1:]):
                start = self.checkpoints.restore(folder, pack) if folder else None
                if start is None:
                    images = images or files.submit(self._initial_stack, pack)
                    state = synthesis.initial_state(jnp.asarray(images.result()))
                    start = 0, state, Cost.none(pack.rounds)
                images = None
                if following and not following[0]:
                    images = files.submit(self._initial_stack, following[1])
                with self.checkpoints.open(pack, points) as checkpoints:
                    finished = self._run_pack(program, pack, start, progress, checkpoints)
                if written:
                    written.result()  # raises what went wrong there
                written = files.submit(self._store, pack, *finished)
            if written:
                written.result()

    def _run_pack(
        self,
        program: rounds.Program,
        pack: Pack,
        start: tuple[int, State, Cost],
        progress: Progress,
        checkpoints: PackCheckpointer,
    ) -> tuple[np.ndarray, Cost, int]:
        """Optimises a pack; returns its images, what they cost and the image-iterations done."""
        options = self.options
        rates = sched.learning_rates(options.learning_rate, pack.iterations)
        crops = sched.min_crop_scales(
            options.crop_curriculum, options.milestone, pack.iterations, options.min_crop
        )
        first, state, cost = start
        done = pack.image_iterations(first)
        progress.advance(done)
        checked = time.monotonic()
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
            saves = chunk.next < len(rates) and checkpoints.is_due
            ends_round = chunk.next % pack.round_iterations == 0
            if saves or ends_round or chunk.next - pending[0].first >= options.log_every:
                loss = self._check(pack, pending)  # waits for the device
                pending = []
                now, compiling = time.monotonic(), program.compile_seconds - compiled
                cost.seconds[chunk.round] += now - checked - compiling
                cost.compile_seconds += compiling
                checked, compiled = now, program.compile_seconds
                progress.advance(count, loss=loss)
                if saves:
                    checkpoints.save(chunk.next, chunk.state(), cost)
            else:
                progress.advance(count)
            if chunk.next == len(rates):
                state = chunk.state()
        return np.asarray(state.images), cost, done

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

    def _store(self, pack: Pack, images: np.ndarray, cost: Cost, done: int) -> None:
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
        self.checkpoints.discard(pack)
