"""A wrong option is found before any work."""

import pytest
from tiny_run import make_config

from delt_jax.data.specs import SPECS
from delt_jax.errors import InputError
from delt_jax.pipeline import announce
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import preflight


@pytest.fixture
def config(tmp_path):
    c = make_config(tmp_path)
    c.synthesis.iterations, c.synthesis.round_iterations = 8, 2
    return c


def test_a_good_config_gives_its_spec_and_plan(config):
    spec, plan = preflight.check(config)
    assert (spec.num_classes, spec.image_size) == (3, 8)
    assert plan.image_iterations == 3 * (8 + 6)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("ipc", 0, "ipc: got 0, expected a whole number from 1 to 1,000,000"),
        ("data.workers", -2, r"data\.workers: got -2, expected a whole number from -1 to 1,024"),
        ("synthesis.learning_rate", -1.0, r"synthesis\.learning_rate: got -1"),
        ("synthesis.flip", 1.5, r"synthesis\.flip: got 1\.5, expected a number from 0 to 1"),
        (
            "synthesis.crop_curriculum",
            "cosin",
            r"synthesis\.crop_curriculum: got 'cosin', .* mean 'cosine'",
        ),
        ("synthesis.milestone", 2.0, r"synthesis\.milestone: got 2"),
        ("synthesis.min_crop", 0.0, r"synthesis\.min_crop: got 0\.0"),
        ("synthesis.compute_dtype", "fp16", "expected one of float32, bfloat16"),
        (
            "synthesis.round_iterations",
            3,
            r"synthesis\.round_iterations: got 3, .* not divide iterations = 8",
        ),
        ("select.mode", "medum", "did you mean 'medium'"),
        ("select.ranking", "/no/ranking.csv", "which is no file"),
        ("select.ranking", "x" * 300, "which is no file"),
        ("data.source", "x" * 300, r"data\.source: source 'x+': cannot be opened \(File name too"),
        ("select.crops", -1, r"select\.crops: got -1, expected a whole number from 0"),
        ("select.factor", 9, r"select\.factor: got 9, expected 1 to the side of 8 pixels"),
        ("select.images_per_class", 1, r"got 1, expected 0 \(all\) or .* factor\^2 = 2 \* 1 = 2"),
        ("synthesis.iterations", -2, r"synthesis\.iterations: got -2"),
        ("teacher.arch", "con3", r"teacher\.arch: got 'con3', .* such as conv3"),
        ("teacher.weights", "/no/weights.pth", "weights '/no/weights.pth': no such file; expected"),
        ("teacher.weights", "torchvison", "did you mean 'torchvision'"),
        ("teacher.weights", "torchvision:V3", "torchvision has none for conv3"),
        (
            "teacher.statistics",
            "teacher",
            "'teacher', expected one of auto, dataset, imagenet, or numbers",
        ),
        ("teacher.statistics", "0.5/0", "0.5/0', expected one of auto"),
        (
            "teacher.arch",
            "alexnet",
            r"teacher\.arch: architecture 'alexnet' has no BatchNorm, .*\(it can be a student\)",
        ),
        (
            "teacher.squeeze.crop",
            "random",
            r"teacher\.squeeze\.crop: got 'random', expected one of pad,",
        ),
        (
            "teacher.squeeze.cutmix_probability",
            2.0,
            "cutmix_probability: got 2.0, expected a number from 0 to 1",
        ),
        ("evaluate.students", ("restnet18",), r"evaluate\.students: .*'restnet18'.*resnet18"),
        ("evaluate.sets", ("distiled",), "did you mean 'distilled'"),
        (
            "evaluate.real_images",
            -1,
            r"evaluate\.real_images: got -1, expected a whole number from 0",
        ),
        ("evaluate.temperature", 0.0, r"evaluate\.temperature: got 0\.0, .* number from 1e-06"),
        ("continual.steps", 2, r"continual\.steps: got 2, expected .* divides the 3 classes"),
        ("continual.steps", -1, r"continual\.steps: got -1, expected a whole number from 0"),
        ("distilled.format", "jpeg", "expected one of png, jpg"),
        ("distilled.quality", 100, "expected a whole number from 1 to 95"),
        ("export.naming", "classes", "did you mean 'class'"),
        ("export.formats", ("tensor",), r"export\.formats: got .*'tensor',.*mean 'tensors'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_expected(config, path, value, message):
    with config.ignore_type():
        config.update_from_flattened_dict({path: value})
    with pytest.raises(InputError, match=message) as caught:
        preflight.check(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": 13}, "ipc: class 'red' has 12 images; expected at least ipc = 13 .2 more classes"),
        ({"ipc": 2, "data.images_per_class": 1}, "class 'red' has 1 images; expected at least"),
        ({"ipc": 4, "select.factor": 2}, r"ipc \* factor\^2 = 4 \* 4 = 16"),
        ({"ipc": 500_000}, "ipc: class 'red' has 12 images"),
        ({"data.source": "tfds:cifar10"}, None),  # whose labels are a long pass
    ],
)
def test_a_class_that_is_too_small_is_named_before_any_work(config, tmp_path, options, message):
    spec, _ = preflight.check(config)
    config.update_from_flattened_dict(options)
    if message is None:
        preflight.check_images(config, spec)
        return
    with pytest.raises(InputError, match=message):
        preflight.check_images(config, spec)
    with pytest.raises(InputError, match=message):
        announce(config, WorkDir(tmp_path / "run"), ["squeeze", "select"])
    assert not (tmp_path / "run").exists()
    # Where nothing is selected, nothing is too small.
    announce(config, WorkDir(tmp_path / "run"), ["report"])


ALL = ("squeeze", "select", "synthesize", "relabel", "evaluate", "fairness", "report", "export")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, None),
        ({"evaluate.sets": ("distilled",)}, "fairness needs 'random' there"),
        ({"evaluate.labels": ("hard",)}, "fairness needs 'soft' there"),
        ({"evaluate.augment": False}, "evaluate.augment False: expected True, fairness compares"),
        ({"evaluate.students": ("conv3_w32",)}, "fairness.full_data_top1 0 with student conv3_w32"),
        ({"evaluate.students": ("conv3_w32",), "fairness.full_data_top1": 50.0}, None),
        pytest.param(
            {"evaluate.batch_norm": "per_device"},
            "batch_size 3 of conv3 .* multiple of the 4 dev",
            marks=pytest.mark.four_devices,
        ),
        ({"evaluate.batch_norm": "per_device", "evaluate.batch_size": 4}, None),
        (
            {"export.formats": ("labels",)},
            r"labels\.json: not there; expected stored labels, which",
        ),
        ({"export.formats": ("labels",), "evaluate.labels": ("soft", "stored")}, None),
        (
            {
                "export.formats": ("npz", "fkd"),
                "evaluate.labels": ("soft", "stored"),
                "labels.order_seed": 1,
            },
            "export fkd: labels.order_seed 1; expected 42",
        ),
        (
            {
                "export.formats": ("labels",),
                "evaluate.labels": ("soft", "stored"),
                "export.directory": "{run}",
            },
            "run', in which the run's own labels are; expected another folder",
        ),
        (
            {
                "export.formats": ("npz",),
                "evaluate.labels": ("soft", "stored"),
                "export.directory": "{run}",
            },
            None,
        ),
        (
            {"export.formats": ("npz",), "export.directory": "{run}/distilled/sub"},
            "distilled/sub: lies in the distilled set",
        ),
        ({"export.formats": ("npz",), "export.directory": "{data}"}, "npz: holds something else"),
        ({"export.formats": ("npz",), "export.directory": "x" * 300}, "File name too long"),
    ],
)
def test_what_the_last_stages_would_refuse_is_refused_first(config, tmp_path, options, message):
    if "fkd" in options.get("export.formats", ()):
        pytest.importorskip("torch")
    (tmp_path / "npz").mkdir()
    (tmp_path / "npz" / "mine.txt").touch()
    run = tmp_path / "run"
    for path, value in options.items():
        if isinstance(value, str):
            value = value.format(run=run, data=tmp_path)
        config.update_from_flattened_dict({path: value})
    if message is None:
        announce(config, WorkDir(run), ALL)
        return
    with pytest.raises(InputError, match=message):
        announce(config, WorkDir(run), ALL)
    announce(config, WorkDir(run), ALL[:3])  # which do not come to that
    assert not run.exists()


@pytest.mark.parametrize(
    ("ipc", "order_seed", "message"),
    [
        (1000, 42, None),
        (2, 1, "export fkd: labels.order_seed 1; expected 42"),
        (1001, 42, "export fkd: ipc 1,001; expected at most 1,000 images a class"),
    ],
)
def test_labels_that_an_earlier_run_stored_can_be_exported(
    config, tmp_path, ipc, order_seed, message
):
    pytest.importorskip("torch")
    config.ipc, config.export.formats = ipc, ("labels", "fkd")
    workdir = WorkDir(tmp_path / "run")
    workdir.labels.mkdir(parents=True)
    workdir.write_json(
        workdir.labels / "labels.json", {"mode": "stored", "stored": {"order_seed": order_seed}}
    )
    if message is None:
        announce(config, workdir, ["export"])
        return
    with pytest.raises(InputError, match=message):
        announce(config, workdir, ["export"])


def test_the_digits_are_counted(config):
    config.data.name, config.data.source, config.ipc = "digits", "", 150
    with pytest.raises(InputError, match="ipc: class '0' has 149 images"):
        preflight.check_images(config, SPECS["digits"])


def test_more_images_than_any_plan_is_made_for(config):
    config.ipc, config.data.name, config.data.source = 1_000_000, "cifar100", ""
    with pytest.raises(InputError, match="ipc: got 1000000, which makes 100,000,000 images"):
        preflight.check(config)


def test_rounds_beyond_the_images_join_none_and_are_as_published(config):
    config.ipc, config.synthesis.iterations, config.synthesis.round_iterations = 2, 8, 1
    _, plan = preflight.check(config)
    assert (plan.schedule.rounds, plan.image_iterations) == (8, 3 * (8 + 7))


def test_more_rounds_than_any_plan_is_made_for(config):
    config.synthesis.iterations, config.synthesis.round_iterations = 10_001, 1
    with pytest.raises(InputError, match=r"round_iterations: got 1, .* into 10,001 rounds"):
        preflight.check(config)
