"""The forms that programs have on other platforms: the same arithmetic, compiled without them."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import drawn_variables

from delt_jax import target
from delt_jax.core import compiling, packing, programs, rounds, schedule, synthesis
from delt_jax.models import registry
from delt_jax.models.resnet import BasicBlock, ResNet
from delt_jax.runtime.mesh import device_mesh
from delt_jax.stages import matching

SIZE, CLASSES, IMAGES = 16, 3, 4
OPTIONS = types.SimpleNamespace(
    compute_dtype="float32", bn_weight=0.05, first_bn_multiplier=10.0, max_crop=1.0, flip=0.5,
    jitter=2, view_per_image=False, beta1=0.5, beta2=0.9, epsilon=1e-8,
    fresh_bias_correction=False, departed_drift=True,
)  # fmt: skip


def test_the_platform_is_this_process_s_own_unless_told_otherwise():
    here = jax.default_backend()
    assert target.platform() == here
    with target.made_for("tpu"):
        assert target.platform() == "tpu"
        assert programs.steps_per_call(7) == 7 and programs.compute_dtype("auto") == jnp.bfloat16
        assert compiling.compiler_options() == {}
        with pytest.raises(KeyError), target.made_for("gpu"):
            raise KeyError
        assert target.platform() == "tpu"
    assert target.platform() == here


def test_what_was_traced_for_another_platform_is_not_taken_up():
    traced = jax.jit(lambda x: x + (1 if target.platform() == "gpu" else 2))
    here = traced(0)
    with target.made_for("gpu"):
        assert traced(0) == 1
    assert traced(0) == here == 2


def _step(per_image):
    """The new state and the metrics of a step; traced anew, and never cached."""
    module = ResNet(BasicBlock, (1,), CLASSES)  # a strided stem, a max-pooling, a shortcut
    variables = matching.prepared(drawn_variables(module, SIZE, seed=3))
    options = types.SimpleNamespace(**{**vars(OPTIONS), "view_per_image": per_image})
    method = matching.method(module, SIZE, variables, ((0.5,) * 3, (0.25,) * 3), options)
    rng = np.random.default_rng(0)
    images = jnp.asarray(np.round(rng.normal(size=(IMAGES, SIZE, SIZE, 3)), 1))
    slots = synthesis.Slots(
        jnp.asarray([0, 1, 2, 0]),
        jnp.asarray([True, True, True, False]),
        jnp.asarray([True, True, True, False]),
        jnp.asarray([0, 0, 0, 9]),
    )
    view = method.draw_view(jax.random.key(5), jnp.int32(1), jnp.asarray(0.3), IMAGES)
    state = synthesis.State(images, 0.1 * images, 0.01 + images**2)
    return jax.jit(
        lambda state: synthesis.step(
            method, variables, state, slots, jnp.int32(1), jnp.asarray(0.1), view
        )
    )(state)


IMAGE_VIEWS = pytest.param(True, marks=pytest.mark.slow, id="image_views")


@pytest.mark.parametrize("per_image", [pytest.param(False, id="batch_view"), IMAGE_VIEWS])
def test_a_step_is_the_same_in_every_platform_s_form(x64, per_image):
    state, metrics = _step(per_image)
    for platform in ("gpu", "tpu"):
        with target.made_for(platform):
            found, found_metrics = _step(per_image)
        for one, other in zip(found, state, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * np.abs(other).max())
        np.testing.assert_allclose(found_metrics["loss"], metrics["loss"], rtol=1e-12)


@pytest.mark.four_devices
@pytest.mark.parametrize("devices", [None, 2])
def test_a_program_is_compiled_from_shapes_alone_and_then_run(devices):
    mesh = device_mesh(rounds.CLASS_BATCHES, devices) if devices else None
    module = registry.create("conv3_w32", CLASSES, 8)
    variables = drawn_variables(module, 8, seed=3)
    method = matching.method(module, 8, variables, ((0.5,) * 3, (0.25,) * 3), OPTIONS)
    program = rounds.Program(method, mesh, steps_per_call=2)
    plan = schedule.Schedule(ipc=2, iterations=4, round_iterations=4)
    batches = schedule.class_batches(plan, CLASSES, 2)[:2]
    (pack,) = packing.make_packs(batches, 2, devices or 1)
    compiled = program.compile(variables, pack, 8, 2)
    assert compiled.memory_analysis() is not None
    images = pack.stack([np.zeros((2, 8, 8, 3), np.float32)] * 2)
    chunks = rounds.optimise(
        program, variables, pack, synthesis.initial_state(jnp.asarray(images)),
        pack.keys(jax.random.key(0)), np.full(4, 0.1), np.full(4, 0.5),
    )  # fmt: skip
    assert [chunk.next for chunk in chunks] == [2, 4]
    assert list(program.executables().values()) == [compiled]  # nothing was compiled again


def test_platforms_do_have_forms_of_their_own():
    module = ResNet(BasicBlock, (1,), CLASSES)
    variables = drawn_variables(module, SIZE, seed=3)
    method = matching.method(module, SIZE, variables, ((0.5,) * 3, (0.25,) * 3), OPTIONS)
    plan = schedule.Schedule(ipc=2, iterations=2, round_iterations=2)
    (pack,) = packing.make_packs(schedule.class_batches(plan, 1, 2), 1)
    found = {}
    for platform in ("cpu", "gpu", "tpu"):
        with target.made_for(platform):
            slots, keys = pack.slots(0, 1), pack.keys(jax.random.key(0))
            image = jnp.zeros((1, 1, SIZE, SIZE, 3))
            state = synthesis.initial_state(image)
            run = jax.jit(functools.partial(rounds._run_steps, method, 1))
            times = (jnp.int32(0), jnp.int32(1), jnp.ones(1), jnp.ones(1))
            found[platform] = run.lower(variables, state, slots, keys, *times).as_text()
    assert ["select_and_scatter" in text for text in found.values()] == [False, False, True]
    assert ["optimization_barrier" in text for text in found.values()] == [False, True, False]
    assert len(set(found.values())) == 3
