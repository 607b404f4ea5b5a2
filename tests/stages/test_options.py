"""Every option of the defaults, given what it cannot be."""

import math

import pytest
from tiny_run import make_config

from delt_jax import defaults
from delt_jax.errors import InputError
from delt_jax.stages import options, preflight

# What every option is given, by what it is called below.
VALUES = {
    "none": None,
    "true": True,
    "text": "nonsense",
    "empty": "",
    "lines": "a\nb",
    "nul": "a\0b",
    "surrogate": "\ud800",
    "negative": -3,
    "minus one": -1,
    "zero": 0,
    "fraction": 0.5,
    "two": 2,
    "nothing in float32": 1e-46,
    "nan": math.nan,
    "infinite": math.inf,
    "huge": 10**40,
    "endless": 10**5000,
    "huge float": 1e300,
    "nothing": (),
    "words": ("nonsense",),
    "numbers": (7,),
    "twice": (7, 7),
    "negatives": (-1,),
    "not numbers": (math.nan,),
    "nobody": "~nobody-of-that-name/x",
    "bytes": b"nonsense",
    "list": [[]],
}

# The values of those that an option does take, and why: reason -> options.
VALID = {
    "true": {
        "a flag": "deterministic data.strict teacher.squeeze.flip synthesis.early_late "
        "synthesis.departed_drift synthesis.fresh_bias_correction synthesis.view_per_image "
        "synthesis.sliced "
        "evaluate.augment evaluate.double_bn_update",
    },
    "text": {
        "a name of the user's own": "method data.name",
        "a path, looked for later": "data.source teacher.weights select.ranking export.directory",
    },
    "empty": {
        "the default: the spec's own, trained here, scored here, in the work directory": "data."
        "source teacher.weights select.ranking export.directory",
        "as in distilled/": "export.encoding",
    },
    "minus one": {
        "all cores but one": "data.workers",
        "the optimizer's own": "evaluate.weight_decay",
    },
    "zero": {
        "all of them": "data.images_per_class select.images_per_class labels.top_k",
        "off": "select.crops synthesis.milestone synthesis.min_iterations evaluate.real_images "
        "evaluate.randaugment_ops evaluate.cutmix evaluate.mixup evaluate.average_decay "
        "teacher.squeeze.average_decay teacher.squeeze.cutmix teacher.squeeze.cutmix_probability "
        "teacher.squeeze.warmup_epochs teacher.squeeze.label_smoothing teacher.squeeze.pad "
        "continual.steps synthesis.jitter",
        "chosen by us": "data.image_size data.workers teacher.squeeze.stored_side "
        "synthesis.class_batches_per_device synthesis.steps_per_call evaluate.seeds_at_once "
        "evaluate.batch_size evaluate.learning_rate evaluate.eval_every labels.epochs "
        "fairness.full_data_top1",
        "a seed": "seed labels.order_seed continual.order_seed",
        "no share, no chance": "synthesis.flip evaluate.flip",
        "plain SGD, Adam without memory": "teacher.squeeze.momentum evaluate.momentum "
        "synthesis.beta1 synthesis.beta2",
        "a control: nothing moves, or a term is left out": "teacher.squeeze.learning_rate "
        "teacher.squeeze.weight_decay synthesis.learning_rate synthesis.bn_weight "
        "synthesis.first_bn_multiplier evaluate.weight_decay",
        "real images, as they are": "synthesis.iterations",
        "RandAugment's weakest, and always the same": "evaluate.randaugment_magnitude "
        "evaluate.randaugment_std",
        "after every call": "checkpoint_minutes",
    },
    "nothing": {
        "no format but distilled/": "export.formats",
        "a method that is its own control": "evaluate.sets",
    },
    "numbers": {
        "one seed": "evaluate.seeds",
        "one rate": "fairness.learning_rates",
    },
}
# Numbers of the middle that many take, and only numbers do.
NUMBERS = [path for path, kind in options.OPTIONS.items() if isinstance(kind, options.Number)]
WHOLE = [path for path in NUMBERS if options.OPTIONS[path].whole]
BELOW_TWO = """teacher.squeeze.momentum teacher.squeeze.label_smoothing
teacher.squeeze.min_scale teacher.squeeze.cutmix_probability teacher.squeeze.average_decay
synthesis.beta1 synthesis.beta2 synthesis.milestone synthesis.min_crop synthesis.max_crop
synthesis.flip evaluate.momentum evaluate.average_decay evaluate.min_scale evaluate.flip"""
# What these are divided by, or a part that is cut out: not next to nothing.
AWAY_FROM_ZERO = """evaluate.temperature evaluate.cosine_stretch synthesis.epsilon
synthesis.min_crop synthesis.max_crop evaluate.min_scale teacher.squeeze.min_scale"""
SMALL = [path for path in NUMBERS if path not in (*WHOLE, *AWAY_FROM_ZERO.split())]
VALID["nothing in float32"] = {"as zero": " ".join(SMALL)}
VALID["fraction"] = {"a number": " ".join(path for path in NUMBERS if path not in WHOLE)}
VALID["two"] = {"a number": " ".join(path for path in NUMBERS if path not in BELOW_TWO.split())}


def is_valid(path, what):
    return any(path in paths.split() for paths in VALID.get(what, {}).values())


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("data"))


def test_every_option_is_in_the_table_once():
    every = defaults.get_base()
    assert dict(options._leaves(every, "")).keys() == options.OPTIONS.keys()
    named = {
        path for reasons in VALID.values() for paths in reasons.values() for path in paths.split()
    }
    assert named <= options.OPTIONS.keys()


@pytest.mark.parametrize("path", options.OPTIONS)
def test_a_wrong_value_is_named(path):
    for what, value in VALUES.items():
        if is_valid(path, what):
            options.check_one(path, value)
            continue
        with pytest.raises(InputError) as caught:
            options.check_one(path, value)
        text = str(caught.value)
        assert text.startswith(f"{path}: got {options.shown(value)}, expected ")
        assert "\n" not in text
        assert len(text) < 500


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, VALUES[what]) for what in VALID for path in options.OPTIONS if is_valid(path, what)],
)
def test_a_value_that_is_valid_by_itself_fits_the_others_or_is_named(config, path, value):
    changed = config.copy_and_resolve_references()
    with changed.ignore_type():
        changed.update_from_flattened_dict({path: value})
    try:
        preflight.check(changed)
    except InputError as error:
        text = str(error)
    else:
        text = path
    assert path.rpartition(".")[2] in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("select.mode", "medum", "select.mode: got 'medum', expected one of .* mean 'medium'"),
        (
            "evaluate.students",
            ("restnet18",),
            "each to be a name such as resnet18.*, unlike 'restnet18'",
        ),
        ("evaluate.seeds", (1, 2, 1), "each once, and 1 is there twice"),
        ("evaluate.labels", ("SOFT",), "mean 'soft'"),
        ("teacher.arch", "con3", "expected a name such as conv3"),
        ("teacher.statistics", "nan/1", "teacher.statistics: got 'nan/1', expected"),
        ("teacher.statistics", "0.5/0", "teacher.statistics: got '0.5/0', expected"),
        ("teacher.statistics", "0.5/0.5/0.5", "expected one of auto, dataset"),
        ("evaluate.weight_decay", -0.5, r"or -1 for the optimizer's own"),
        ("evaluate.momentum", 1.0, "a number from 0 and below 1"),
        ("teacher.weights", "https://me:secret@a.org/w-00000000.pth", "a user or password"),
    ],
)
def test_the_nearest_and_the_limits_are_said(path, value, message):
    with pytest.raises(InputError, match=message) as caught:
        options.check_one(path, value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.source", "tfds:cifar10:gs://b?token=hunter2", "which config.json would keep"),
        ("data.source", "tfds:cifar10:gs://b/;token=hunter2", "which config.json would keep"),
        ("data.source", "https://a.org/?token=hunter2", "begins with https://; expected a path"),
        ("data.name", "https://a.org/?token=hunter2", "begins with https://; expected a path"),
        ("export.directory", "https://a.org/?token=hunter2", "with https://; expected a path"),
        ("select.ranking", "https://a.org/?token=hunter2", "with https://; expected a path"),
        ("teacher.weights", "https://a.org/w-00000000.pth?jwt=hunter2", "holds parameters other"),
    ],
)
def test_no_secret_is_taken_or_said(path, value, message):
    with pytest.raises(InputError, match=f"{path}: .*{message}") as caught:
        options.check_one(path, value)
    assert "hunter2" not in str(caught.value)
    options.check_one("data.source", "tfds:cifar10:gs://bucket/folder")


def test_an_option_that_there_is_not_is_named_with_the_nearest(config):
    more = config.copy_and_resolve_references()
    more.synthesis.iteratons = 5
    with pytest.raises(
        InputError, match=r"synthesis\.iteratons: no such option; is it synthesis\.iterations"
    ):
        options.check(more)
    less = config.copy_and_resolve_references()
    del less.select["mode"]
    with pytest.raises(InputError, match=r"select\.mode: not in the config; expected one of"):
        options.check(less)
