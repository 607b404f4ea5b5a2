"""What a run would cost: as people read it, with nothing at hand but the config."""

import jax
import numpy as np
import pytest
import tiny_run

from configs import imagenet, imagenet100
from delt_jax import pipeline
from delt_jax.models import registry
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import dry_run, preflight

STAGES = ("squeeze", "select", "synthesize", "relabel", "evaluate")


def lines_of(config, stages=STAGES, measure=False):
    return dry_run.report(config, *preflight.check(config), stages, measure).splitlines()


def cells(lines, beginning):
    (line,) = [line for line in lines if line.startswith(beginning)]
    return line.split()


def test_imagenet_is_estimated_without_images_or_weights():
    lines = lines_of(imagenet.get_config("ipc=50,weights=torchvision"))
    assert lines[0].startswith("forward pass of resnet18 at 224 px: 3.63 GFLOP")
    # 115,500,000 x 2 x 3.628 GFLOP.
    assert cells(lines, "synthesize") == [
        *("synthesize", "115,500,000", "image-iterations", "838", "over", "all", "devices")
    ]
    assert "200,000,000 image-iterations: 42.2% of them are saved" in "\n".join(lines)
    # One H200 at 30 % of 494.5 TFLOP/s (float32): 838e15 / 148e12 s = 1.57 h.
    hours = cells(lines, "one H200 SXM")
    assert hours[:6] == ["one", "H200", "SXM", "1", "1", "141"]
    assert hours[8] == "1.6"
    assert "this machine" not in "\n".join(lines), "nothing was measured"


def test_bfloat16_halves_the_hours_of_a_gpu_and_the_activations():
    config = imagenet.get_config("ipc=50,weights=torchvision")
    config.synthesis.compute_dtype = "bfloat16"
    lines = lines_of(config, ("synthesize",))
    assert cells(lines, "one H200 SXM")[6:8] == ["0.78", "0.78"]
    (kept,) = [line for line in lines if "activations kept" in line]
    assert "1.89" in kept.split()  # 100 x 18.87 MB; 2.51 GB in float32


def test_stages_that_are_left_out_cost_nothing():
    lines = lines_of(imagenet.get_config("ipc=50"), ("select",))
    assert cells(lines, "hours on") == [
        *("hours", "on", "devices", "hosts", "GB", "each", "select", "total", "side", "by", "side")
    ]
    assert not [line for line in lines if "image-iterations" in line and "constant" not in line]


def test_a_data_set_of_unknown_size_that_is_not_there_leaves_the_rest():
    config = imagenet100.get_config("ipc=10")
    lines = lines_of(config)
    assert lines[1].startswith("not estimated: what depends on the number of real images (")
    assert cells(lines, "synthesize")
    assert not [line for line in lines if line.startswith("select")]


def test_a_source_that_is_there_is_counted(tmp_path):
    config = tiny_run.make_config(tmp_path)
    spec, _ = preflight.check(config)
    assert dry_run.split_sizes(config, spec) == ((36, 14), "")
    config.data.images_per_class = 3
    assert dry_run.split_sizes(config, spec) == ((9, 9), "")


@pytest.mark.slow
def test_the_synthesis_is_timed_here_and_nothing_is_written(tmp_path):
    config = tiny_run.make_config(tmp_path)
    config.synthesis.iterations, config.synthesis.round_iterations = 4, 2
    workdir = WorkDir(tmp_path / "run")
    text = pipeline.estimate(config, workdir, ("synthesize",))
    assert text.startswith("delt_jax ")
    assert "measured on this machine's first device, 3 images a step: " in text
    assert "this machine (cpu)" in text
    assert not workdir.path.exists()


def test_noise_stands_in_for_a_teacher_and_keeps_activations_within_bounds():
    module = registry.create("cifar_resnet20", 10, 32)
    shapes = registry.variable_shapes(module, 32)
    variables = dry_run.noise_variables(shapes)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    logits = np.asarray(module.apply(variables, images))
    assert np.abs(logits).max() < 1e4
    assert logits.std() > 0


@pytest.mark.parametrize(
    ("value", "text"), [(13464.6, "13,465"), (99.94, "99.9"), (7.04, "7.0"), (0.0347, "0.035")]
)
def test_numbers_have_the_digits_that_tell(value, text):
    assert dry_run._number(value) == text
