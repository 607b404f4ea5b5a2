"""How many class batches run side by side: the search, and what it finds on real devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import SIZE

from delt_jax.core import rounds, synthesis
from delt_jax.core.schedule import Schedule, class_batches
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog, read_metrics
from delt_jax.stages import matching, packing_width
from delt_jax.stages.packing_width import Choice, Trial, choose, search

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."


class Device:
    """What the search sees of a device: so many bytes a class batch, and a rate by width."""

    def __init__(self, rates, breaks_at=None, error=OUT_OF_MEMORY):
        self.rates, self.breaks_at, self.error = rates, breaks_at, error
        self.tried = []

    def memory(self, width):
        self.tried.append(width)
        return 10 * width

    def measure(self, width):
        if width == self.breaks_at:
            raise jax.errors.JaxRuntimeError(self.error)
        return self.rates[width]

    def search(self, most, limit=None, **options):
        return search(most, self.memory, self.measure, limit, **options)


@pytest.mark.parametrize(
    ("most", "rates", "limit", "tried", "width", "why"),
    [
        (64, {1: 100, 2: 180, 4: 300, 8: 310}, None, [1, 2, 4, 8], 4, "8 are not 5% faster"),
        (64, {1: 100, 2: 90}, None, [1, 2], 1, "2 are not 5% faster"),
        (64, {1: 100, 2: 105.0, 4: 105}, None, [1, 2, 4], 2, "4 are not 5% faster"),
        (64, {1: 100, 2: 180}, 35, [1, 2, 4], 2, "4 do not fit into the memory"),
        (3, {1: 100, 2: 180, 3: 250}, None, [1, 2, 3], 3, "there are no more"),
        (4, {1: 100, 2: 180, 4: 300}, 40, [1, 2, 4], 4, "there are no more"),
        (1, {1: 100}, 5, [1], 1, "there are no more"),
    ],
)
def test_the_width_doubles_while_it_pays(most, rates, limit, tried, width, why):
    device = Device(rates)
    choice = device.search(most, limit)
    assert device.tried == tried
    assert (choice.width, choice.why) == (width, why)


def test_what_runs_out_of_memory_is_not_chosen():
    choice = Device({1: 100, 2: 180, 4: 300}, breaks_at=4).search(64)
    assert choice.width == 2
    assert choice.trials[-1].rate is None


def test_where_one_class_batch_does_not_fit_the_error_says_what_to_change():
    with pytest.raises(InputError, match=r"expected a smaller synthesis\.class_batch"):
        Device({}, breaks_at=1).search(64)


def test_other_errors_of_a_device_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        Device({}, breaks_at=1, error="INTERNAL: no such kernel").search(64)


def test_a_short_run_is_not_spent_on_trials():
    ticks = iter(range(0, 1000, 30))  # each trial takes 30 seconds
    device = Device({1: 100, 2: 180, 4: 300})
    choice = device.search(64, image_iterations=40_000, clock=lambda: next(ticks))
    # 40,000 / 100 s = 400 s are left at first: 30 s are less than a tenth; then 222 s.
    assert device.tried == [1, 2]
    assert (choice.width, choice.why) == (2, "a further trial would not pay")


def test_the_choice_is_one_line():
    choice = Choice(2, "4 do not fit", (Trial(1, 1_500_000_000, 1234.4, 2.0), Trial(4, 7, None, 1)))
    assert choice.describe() == (
        "2 class batches side by side on a device (4 do not fit; image-iterations by width: "
        "1: 1,234/s in 1.50 GB, 4: not run in 0.00 GB)"
    )


def make_program(mesh):
    module = registry.create("conv3_w32", 3, SIZE)
    variables = registry.initialise(module, SIZE, jax.random.key(0))
    method = synthesis.Method(
        matching.matching_forward(module),
        matching.matching_objective(module, SIZE, variables, 0.01, 10.0),
        synthesis.view_drawer(SIZE, 1.0, 0.5, 0, False),
        (-2.0, -2.0, -2.0),
        (2.0, 2.0, 2.0),
    )
    return rounds.Program(method, mesh, steps_per_call=2), variables


BATCHES = class_batches(Schedule(4, 4, 1), 8, 4)  # 8 class batches of 4 slots; prefixes 1 2 3 4


@pytest.mark.four_devices
@pytest.mark.parametrize("count", [1, 2])
def test_on_devices_the_trials_run_the_programs_that_the_run_will_use(count):
    devices = jax.devices()[:count]
    mesh = device_mesh(rounds.CLASS_BATCHES, count)
    program, variables = make_program(mesh)
    choice = packing_width.measured(program, variables, BATCHES, SIZE, devices)
    assert [trial.width for trial in choice.trials] == [1, 2, 4, 8][: len(choice.trials)]
    assert choice.width in [trial.width for trial in choice.trials]
    pixels = SIZE * SIZE * 3
    for trial in choice.trials:
        # The whole state twice, per device: images and two moments of 4 slots each, float32.
        assert trial.memory > 2 * 3 * 4 * 4 * pixels * trial.width
        assert trial.rate is not None
    assert (count, 2) in program.executables(), "the typical round has 2 slots"


def test_memory_is_read_off_the_program_and_grows_with_the_width():
    program, variables = make_program(None)

    def memory(width):
        pack = packing_width.packing.make_packs(BATCHES[:width], 8)[0]
        run = packing_width.TrialRun(program, variables, pack, SIZE, r=1, slots=2)
        return run.memory(devices=1)

    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    # Not four times: some temporaries (kernels turned round) are the same for any width.
    assert 2 < (memory(4) - weights) / (memory(1) - weights) <= 4.2


def test_asking_for_a_number_gives_it_and_a_cpu_runs_one_without_trying():
    devices = jax.devices()[:1]
    unused = (None, None, BATCHES, SIZE, devices)
    assert choose(3, *unused) == 3
    assert choose(packing_width.AUTO, *unused) == 1


class Accelerator:
    platform, device_kind = "gpu", "a GPU"


def test_what_was_found_is_said_and_recorded(tmp_path, monkeypatch):
    found = Choice(4, "there are no more", (Trial(4, 100, 5.0, 1.0),))
    monkeypatch.setattr(packing_width, "measured", lambda *_: found)
    log, lines = MetricsLog(tmp_path / "metrics.jsonl"), []
    unused = (None, None, BATCHES, SIZE)
    assert choose(packing_width.AUTO, *unused, [Accelerator()], metrics=log, say=lines.append) == 4
    assert lines == [f"synthesize: {found.describe()}"]
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert row["width"] == 4
    assert row["trials"] == [{"width": 4, "memory": 100, "rate": 5.0, "seconds": 1.0}]


def test_the_typical_round_is_one_of_the_schedule():
    pack = packing_width.packing.make_packs(class_batches(Schedule(50, 4000, 500), 2, 100), 1)[0]
    # Prefixes 14 28 40 52 64 76 88 100, on average 57.75: round 3 has 52, round 4 has 64.
    assert packing_width.typical_round(pack) == 3


def test_noise_stays_finite_over_a_trial():
    program, variables = make_program(None)
    pack = packing_width.packing.make_packs(BATCHES[:1], 1)[0]
    run = packing_width.TrialRun(program, variables, pack, SIZE, r=3, slots=4)
    run.step(5)
    assert np.isfinite(jnp.asarray(run._state.images)).all()
