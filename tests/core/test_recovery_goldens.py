"""The published recovery, to the last digit: float64 runs of the authors' code, fed their draws."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import golden_architecture, golden_variables

from delt_jax.core import packing, rounds, synthesis
from delt_jax.core import schedule as sched
from delt_jax.core.augment.geometry import Box, View
from delt_jax.core.schedule import ClassBatch, Schedule
from delt_jax.stages import matching

TOLERANCE = 1e-9
pytestmark = pytest.mark.usefixtures("optimised", "x64")
# Of a masked ResNet; the first round is the one with most masked. XLA's float64 convolutions inside
# a loop take minutes for the whole run, which the prefixes and the ConvNet do to the end.
MASKED_CHUNKS = 1
FIRST_CHUNKS = 2


class Golden:
    """One recorded run and the pieces that rerun it."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as file:
            self.record = json.loads(str(file["record"]))
            self.final = file["final_normalised"].transpose(0, 2, 3, 1)
            self.pixels = file["final_pixels"].transpose(0, 2, 3, 1)
            self.labels = file["labels"]
            self.logits_first4 = file["logits_first4"]
            self.bn_terms_first4 = file["bn_terms_first4"]
        self.meta = meta = self.record["meta"]
        self.mean = np.array(meta["dataset_stats"]["mean"])
        self.std = np.array(meta["dataset_stats"]["std"])
        arch = golden_architecture(meta["arch"], meta["stem"])
        self.module, self.variables = golden_variables(
            arch, meta["num_classes"], meta["size"], meta["seed"]
        )
        size = meta["size"]
        shape = (meta["num_classes"] * meta["ipc"], 3, size, size)
        pixels = np.random.default_rng(meta["seed"] + 1).uniform(0, 1, shape)
        self.initial = (pixels.transpose(0, 2, 3, 1) - self.mean) / self.std

    def method(self, first_iteration):
        """The method, whose views are the recorded ones of a batch that began at an iteration."""
        meta = self.meta
        crops, flips, rolls = (
            jnp.asarray(self.record[name][first_iteration:]) for name in ("crops", "flips", "rolls")
        )

        def recorded_view(key, t, min_scale, n):
            return View(Box(*crops[t]), flips[t], rolls[t, 0], rolls[t, 1])

        return synthesis.Method(
            forward=matching.matching_forward(self.module),
            objective=matching.matching_objective(
                self.module,
                meta["size"],
                self.variables,
                meta["bn_weight"],
                meta["first_bn_multiplier"],
            ),
            draw_view=recorded_view,
            low=tuple(-self.mean / self.std),
            high=tuple((1 - self.mean) / self.std),
            adam=synthesis.Adam(*meta["adam_betas"], meta["adam_eps"]),
        )

    def class_batches(self) -> list[ClassBatch]:
        """The recorded batches as ours; what our schedule says must be what was recorded."""
        meta = self.meta
        recorded = [self._recorded(start, active) for start, active in self._starts()]
        if not self._draws_rounds():
            schedule = Schedule(
                meta["ipc"], meta["iterations"], recorded[0].round_iterations, self._early_late()
            )
            planned = sched.class_batches(schedule, meta["num_classes"], meta["batch_size"])
            assert len(planned) == len(recorded)
            for ours, theirs in zip(planned, recorded, strict=True):
                for field in ("slots", "labels", "join", "leave", "rounds", "round_iterations"):
                    np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
        return recorded

    def _early_late(self):
        return self.meta.get("early_late", self.meta["round_iterations"] > 0)

    def _draws_rounds(self):
        fewest = self.meta.get("min_iterations")
        return fewest not in (None, -1, self.meta["iterations"])

    def _starts(self):
        return [
            (index * self.meta["batch_size"], active)
            for index, active in enumerate(self.record["active"])
        ]

    def _recorded(self, start, recorded) -> ClassBatch:
        count = min(self.meta["batch_size"], len(self.labels) - start)
        active = np.zeros((len(recorded), count), bool)
        for r, indices in enumerate(recorded):
            active[r, indices] = True
        join = active.argmax(axis=0)
        leave = len(recorded) - active[::-1].argmax(axis=0)
        order = np.argsort(join, kind="stable")
        slots = start + order
        return ClassBatch(
            slots=slots,
            labels=self.labels[slots],
            ranks=slots % self.meta["ipc"],
            join=join[order],
            leave=leave[order],
            rounds=len(recorded),
            round_iterations=self.meta["round_iterations"]
            if self._early_late() or self._draws_rounds()
            else self.meta["iterations"] // len(recorded),
        )


def reproduce(golden, sliced=True, steps_per_call=1, chunks_of_each_batch=None):
    """Runs a golden's class batches, or the first chunks of each, beside what was recorded."""
    record, meta = golden.record, golden.meta
    images = golden.initial.copy()
    start = 0
    for index, batch in enumerate(golden.class_batches()):
        (pack,) = packing.make_packs([batch], 1)
        program = rounds.Program(golden.method(start), steps_per_call=steps_per_call)
        rates = sched.learning_rates(meta["lr"], batch.iterations)
        crops = sched.min_crop_scales(meta["crop_curriculum"], meta["milestone"], batch.iterations)
        window = slice(start, start + batch.iterations)
        np.testing.assert_allclose(rates, record["lr"][window], rtol=1e-12)
        np.testing.assert_allclose(crops, record["min_crop"][window], rtol=1e-12)
        state = synthesis.initial_state(pack.stack([images[batch.slots]]))
        keys = pack.keys(jax.random.key(index))
        chunks = rounds.optimise(
            program,
            matching.prepared(golden.variables),
            pack,
            state,
            keys,
            rates,
            crops,
            sliced=sliced,
        )
        for chunk in itertools.islice(chunks, chunks_of_each_batch):
            steps = slice(start + chunk.first, start + chunk.next)
            metrics = chunk.metrics
            np.testing.assert_allclose(
                metrics["loss_ce"][:, 0], record["loss_ce"][steps], rtol=TOLERANCE
            )
            np.testing.assert_allclose(
                metrics["loss_bn"][:, 0], record["loss_bn"][steps], rtol=TOLERANCE
            )
            assert {pack.active_count(chunk.round)} == set(record["active_counts"][steps])
            final = chunk.state().images
        images[batch.slots] = pack.split(np.asarray(final))[0]
        start += batch.iterations
    if chunks_of_each_batch is None:
        np.testing.assert_allclose(images, golden.final, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(images * golden.std + golden.mean, golden.pixels, atol=1e-6)


def test_recovery_reproduces_the_published_run(recovery_golden):
    reproduce(Golden(recovery_golden))


def test_masked_loop_reproduces_the_published_run(recovery_golden):
    golden = Golden(recovery_golden)
    masked = MASKED_CHUNKS if "resnet" in golden.meta["arch"] else None
    reproduce(golden, sliced=False, steps_per_call=3, chunks_of_each_batch=masked)


def test_first_rounds_of_a_resnet_reproduce_the_published_run(large_recovery_golden):
    """The second step meets the images that the first one left: gradient, Adam, strides."""
    reproduce(Golden(large_recovery_golden), chunks_of_each_batch=FIRST_CHUNKS)


def test_teacher_and_its_terms_match_a_plain_forward(recovery_golden):
    golden = Golden(recovery_golden)
    method = golden.method(0)
    first4 = jnp.asarray(golden.initial[:4])
    logits, moments = method.forward(matching.prepared(golden.variables), first4)
    np.testing.assert_allclose(logits, golden.logits_first4, rtol=TOLERANCE, atol=TOLERANCE)
    labels, weights = jnp.asarray(golden.labels[:4]), jnp.ones(4)
    _, metrics = method.objective(logits, moments, labels, weights)
    np.testing.assert_allclose(metrics["loss_bn"], golden.bn_terms_first4, rtol=TOLERANCE)
