"""Every config: its arguments, its numbers, and a smoke run of all its stages."""

import json

import pytest
import tiny_run
from run_module import run_module

from configs import (
    base,
    cifar10,
    cifar100,
    custom,
    digits,
    imagenet,
    imagenet100,
    imagenette,
    presets,
    tiny_imagenet,
)
from delt_jax.errors import InputError
from delt_jax.stages import preflight, protocol
from delt_jax.stages.planning import make_plan

CONFIGS = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "custom": custom,
    "imagenet": imagenet,
    "imagenet100": imagenet100,
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
    c = cifar10.get_config("ipc=50,source=/data/x,method=early_only")
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
    assert (e.epochs, e.temperature, e.seeds) == (300, 20, (3407, 4663, 2897))
    assert (e.optimizer, e.labels, e.augment, e.average_decay) == ("adamw", ("soft",), True, 0)
    assert e.weight_decay == -1  # the optimiser's own; of AdamW:
    assert protocol.ADAMW_WEIGHT_DECAY == 0.01


@pytest.mark.parametrize("name", CONFIGS)
def test_every_data_set_takes_every_method(name):
    needed = ["smoke"] if name == "custom" else []  # it has no data set of its own

    def get_config(*arguments):
        return CONFIGS[name].get_config(",".join((*needed, *arguments)))

    assert get_config().to_dict() == get_config("method=delt").to_dict()
    assert get_config().synthesis.early_late
    assert not get_config("method=early_only").synthesis.early_late
    rded = get_config("method=rded")
    assert (rded.select.mode, rded.select.crops, rded.select.images_per_class) == ("top", 5, 300)
    assert rded.select.factor == (2 if name.startswith("imagenet") else 1)
    assert (rded.synthesis.iterations, rded.evaluate.sets) == (0, ("distilled", "random"))
    assert make_plan(rded, 10).image_iterations == 0
    with pytest.raises(InputError, match=r"^method: got 'rdde', expected rded$"):
        get_config("method=rdde")


def test_rded_of_many_images_looks_at_as_many_as_it_needs():
    assert imagenet.get_config("ipc=100,method=rded").select.images_per_class == 400


@pytest.mark.parametrize("method", presets.METHODS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_method_on_every_data_set_passes_preflight(name, method):
    config = CONFIGS[name].get_config(f"smoke,method={method}")
    assert config.method == method
    preflight.check(config)


@pytest.mark.parametrize(
    ("config", "method", "expected"),
    [  # FAMILY: learning rate, weight of BatchNorm matching, largest roll
        (imagenet, "cda", (0.25, 0.01, 32)),
        (imagenet, "sre2l", (0.25, 0.01, 32)),
        (tiny_imagenet, "cda", (0.4, 0.05, 4)),
        (tiny_imagenet, "sre2l", (0.1, 1.0, 4)),
        (cifar10, "cda", (0.25, 0.01, 4)),
    ],
)
def test_the_baselines_have_their_authors_settings(config, method, expected):
    s = config.get_config(f"method={method}").synthesis
    assert (s.learning_rate, s.bn_weight, s.jitter) == expected
    assert (s.early_late, s.initial, s.layout, s.iterations) == (False, "noise", "across", 4000)
    assert s.milestone == (1.0 if method == "cda" else 0.0)


def test_controls_are_real_images_evaluated_once():
    selected, random = (digits.get_config(f"method={name}") for name in ("selected", "random"))
    assert (selected.select.mode, random.select.mode) == ("medium", "random")
    assert selected.synthesis.iterations == random.synthesis.iterations == 0
    assert selected.evaluate.sets == ("distilled", "random")
    assert random.evaluate.sets == ("distilled",)


def test_a_smoke_run_of_rded_is_one_still():
    c = imagenet.get_config("smoke,method=rded")
    assert (c.data.name, c.ipc, c.select.factor, c.synthesis.iterations) == ("digits", 4, 1, 0)


@pytest.mark.slow
def test_rded_runs_every_stage(tmp_path):
    smoke = "--config=configs/digits.py:smoke"
    workdir = f"--workdir={tmp_path / 'run'}"
    done = run_module("delt_jax.main", smoke, "--config.method=rded", workdir)
    assert done.returncode == 0, done.stderr
    assert "no iterations, no synthesis" in done.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["method"], results["cost"]["image_iterations"]) == ("rded", 0)
    assert set(results["students"]["conv3_w32"]) == {"distilled", "random"}


def test_custom_derives_all_from_the_images(tmp_path):
    tiny_run.write_archive(tmp_path / "colours.npz")
    c = custom.get_config(f"source={tmp_path / 'colours.npz'},ipc=3,flip=false")
    assert (c.data.name, c.data.image_size, c.ipc) == ("custom", 32, 3)
    assert (c.teacher.arch, c.teacher.squeeze.crop, c.teacher.squeeze.pad) == (
        "resnet18_small",
        "pad",
        4,
    )
    assert (c.evaluate.randaugment_magnitude, c.evaluate.randaugment_ops) == (5.0, 4)
    assert (c.teacher.squeeze.flip, c.synthesis.flip, c.evaluate.flip) == (False, 0.0, 0.0)
    large = custom.get_config(f"source={tmp_path / 'colours.npz'},size=128,teacher=resnet34")
    assert (large.data.image_size, large.teacher.arch) == (128, "resnet34")
    assert (large.teacher.squeeze.crop, large.teacher.squeeze.stored_side) == ("resized", 144)
    assert (large.teacher.squeeze.flip, large.synthesis.flip) == (True, 0.5)


def test_custom_needs_a_source():
    with pytest.raises(InputError, match="config argument source: got none, expected the path"):
        custom.get_config("ipc=3")
    with pytest.raises(InputError, match="no such file or folder"):
        custom.get_config("source=/nowhere/birds")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "cifar10", "custom", "imagenet"])
def test_smoke_runs_every_stage(name, tmp_path):
    """The other configs become one of these under smoke; that they are sound is tested above."""
    words = (f"--config=configs/{name}.py:smoke", f"--workdir={tmp_path / 'run'}")
    first = run_module("delt_jax.main", *words)
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    cost = results["cost"]
    assert cost["image_iterations"] == cost["promised"] > 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert str(tmp_path / "run" / "report.html") in first.stdout
    if name != "digits":
        return
    second = run_module("delt_jax.main", *words)
    assert second.returncode == 0, second.stderr
    for stage in ("squeeze", "select", "synthesize", "relabel"):
        assert f"{stage}: done before, kept" in second.stdout
