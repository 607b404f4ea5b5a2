"""Keys of files, found again in those of a network."""

import pytest

from delt_jax.errors import InputError
from delt_jax.models.weight_keys import Fit, coverage, fit

EXPECTED = {"conv.weight": (4, 3), "norm.mean": (4,), "fc.weight": (2, 4), "fc.bias": (2,)}


def fitted(found, expected=EXPECTED):
    return fit(found, expected, lambda key: key.replace("bn.", "norm."), 2)


def prefixed(prefix, shapes=EXPECTED):
    return {prefix + key: shape for key, shape in shapes.items()}


def test_bare_keys_stay():
    assert fitted(EXPECTED) == Fit({key: key for key in EXPECTED}, ("",), ())


@pytest.mark.parametrize("prefix", ["model.", "a.b.c.", "fc.", "conv."])
def test_a_prefix_is_taken_off(prefix):
    fit = fitted(prefixed(prefix))
    assert fit == Fit({key: prefix + key for key in EXPECTED}, (prefix,), ())


def test_keys_outside_of_the_prefix_are_left_out():
    found = prefixed("model.") | {"criterion.weight": (2,), "head.weight": (2, 4)}
    assert fitted(found).left_out == ("criterion.weight", "head.weight")


def test_unexpected_keys_within_the_prefix_stay():
    found = prefixed("model.") | {"model.conv2.weight": (4, 4)}
    assert fitted(found).keys["conv2.weight"] == "model.conv2.weight"


def test_unexpected_keys_without_a_prefix_stay():
    assert fitted(EXPECTED | {"conv2.weight": (4, 4)}).keys["conv2.weight"] == "conv2.weight"


@pytest.mark.parametrize("beside", ["criterion.weight", "train_acc.total", "n_averaged"])
def test_losses_and_metrics_beside_bare_keys_are_left_out(beside):
    assert fitted(EXPECTED | {beside: (2,)}).left_out == (beside,)


def test_bare_keys_come_before_prefixed_ones():
    assert fitted(EXPECTED | prefixed("ema.")) == Fit(
        {key: key for key in EXPECTED}, ("",), tuple(prefixed("ema."))
    )


def test_two_prefixes_are_refused():
    message = r"several prefixes, 'model', 'model_ema\.net'; name one as weights_key"
    with pytest.raises(InputError, match=message):
        fitted(prefixed("model.") | prefixed("model_ema.net."))


def test_two_prefixes_may_share_the_network():
    found = {"body.conv.weight": (4, 3), "body.norm.mean": (4,)}
    found |= {"head.fc.weight": (2, 4), "head.fc.bias": (2,)}
    assert fitted(found).prefixes == ("body.", "head.")
    assert fitted(found).keys["fc.bias"] == "head.fc.bias"


def test_a_part_that_is_there_twice_is_refused():
    found = {"body.conv.weight": (4, 3), "body.norm.mean": (4,), "body.norm.var": (4,)}
    found |= {f"{head}.fc.{leaf}": (2,) for head in ("one", "two") for leaf in ("weight", "bias")}
    with pytest.raises(InputError, match="'one', 'two'"):
        fitted(found, EXPECTED | {"norm.var": (4,)})


@pytest.mark.parametrize("head", ["fc.", "head.fc."])
@pytest.mark.parametrize("bodies", [("online.", "target."), ("ema.", "online.")])
def test_two_bodies_of_one_head_are_refused(bodies, head):
    found = {f"{head}weight": (2, 4), f"{head}bias": (2,)}
    for body in bodies:
        found |= {f"{body}{key}": (4,) for key in ("conv.weight", "norm.mean", "norm.var")}
    names = ", ".join(repr(body.rstrip(".")) for body in bodies)
    with pytest.raises(InputError, match=f"several prefixes, {names}, and its classifier outside"):
        fitted(found, EXPECTED | {"norm.var": (4,)})


def test_an_absent_tensor_is_not_taken_from_another_set():
    found = {key: shape for key, shape in prefixed("model.").items() if "fc.bias" not in key}
    found |= {"ema.fc.bias": (2,), "ema.fc.weight": (2, 4)}
    assert "fc.bias" not in fitted(found).keys


def other_classifier(*layers):
    found = {key: shape for key, shape in EXPECTED.items() if "fc" not in key}
    for name, features in layers:
        found |= {f"{name}.weight": (7, features), f"{name}.bias": (7,)}
    return found


def test_a_classifier_may_have_another_name():
    assert fitted(other_classifier(("linear", 4))).keys["fc.weight"] == "linear.weight"


@pytest.mark.parametrize(
    "layers", [[("linear", 5)], [("one", 4), ("two", 4)], [("fc.1", 4), ("fc.3", 7)], []]
)
def test_other_layers_are_no_classifier(layers):
    assert "fc.weight" not in fitted(other_classifier(*layers)).keys


def test_older_names_are_found_under_a_prefix():
    found = {key.replace("norm", "bn"): shape for key, shape in prefixed("net.").items()}
    assert fitted(found).keys["norm.mean"] == "net.bn.mean"


def test_an_older_name_does_not_replace_a_tensor():
    keys = fitted(EXPECTED | {"bn.mean": (9,)}).keys
    assert (keys["norm.mean"], keys["bn.mean"]) == ("norm.mean", "bn.mean")


def test_coverage_counts_the_keys_of_the_network():
    assert coverage(EXPECTED, EXPECTED, str) == 4
    assert coverage({"conv.weight": (4, 3), "x": (1,)}, EXPECTED, str) == 1
    assert coverage(prefixed("a.") | prefixed("b."), EXPECTED, str) == 4
    assert coverage({}, EXPECTED, str) == 0
