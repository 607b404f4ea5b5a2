"""Every config: its arguments, its numbers, and a smoke run of all its stages."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import base, cifar10, digits, imagenet, imagenette, tiny_imagenet
from delt_jax.errors import InputError
from delt_jax.stages.planning import make_plan

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = {
    "digits": digits,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "imagenette": imagenette,
    "tiny_imagenet": tiny_imagenet,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unknown_arguments_are_refused(name):
    with pytest.raises(InputError, match="got 'ipcc', expected ipc"):
        CONFIGS[name].get_config("ipcc=3")
    with pytest.raises(InputError, match="config argument ipc: got 'many', expected int"):
        CONFIGS[name].get_config("ipc=many")


def test_arguments_become_their_types():
    c = cifar10.get_config("ipc=50,source=/data/x,constant")
    assert (c.ipc, c.data.source, c.synthesis.early_late) == (50, "/data/x", False)


@pytest.mark.parametrize(
    ("config", "classes", "image_iterations", "saved"),
    [
        (cifar10.get_config("ipc=10"), 10, 255_000, 0.3625),
        (cifar10.get_config("ipc=50"), 10, 1_155_000, 0.4225),
        (imagenet.get_config("ipc=100"), 1000, 229_000_000, 0.4275),
        (cifar10.get_config("ipc=1"), 10, 20_000, 0.0),
    ],
)
def test_the_paper_s_settings_cost_what_the_paper_says(config, classes, image_iterations, saved):
    plan = make_plan(config, classes)
    assert plan.image_iterations == image_iterations
    assert plan.saved_share == pytest.approx(saved)


def test_the_defaults_are_the_paper_s():
    s = base.get_base().synthesis
    assert (s.iterations, s.round_iterations, s.class_batch) == (4000, 500, 100)
    assert (s.learning_rate, s.bn_weight, s.first_bn_multiplier) == (0.25, 0.01, 10.0)
    assert (s.beta1, s.beta2, s.epsilon) == (0.5, 0.9, 1e-8)
    assert (s.crop_curriculum, s.milestone, s.min_crop, s.jitter) == ("cosine", 1.0, 0.08, 0)
    e = base.get_base().evaluate
    assert (e.epochs, e.temperature, e.weight_decay, e.seeds) == (300, 20, 0.01, (3407, 4663, 2897))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_smoke_runs_every_stage_and_then_skips_what_is_done(name, tmp_path):
    command = [
        *(sys.executable, "-m", "delt_jax.main", f"--config=configs/{name}.py:smoke"),
        f"--workdir={tmp_path / 'run'}",
    ]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    options = {"cwd": ROOT, "env": environment, "text": True, "capture_output": True}
    first = subprocess.run(command, **options)
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    cost = results["cost"]
    assert cost["image_iterations"] == cost["promised"] > 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert str(tmp_path / "run" / "report.html") in first.stdout
    second = subprocess.run(command, **options)
    assert second.returncode == 0, second.stderr
    for stage in ("squeeze", "select", "synthesize", "relabel"):
        assert f"{stage}: done before, kept" in second.stdout
