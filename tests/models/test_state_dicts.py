"""Sets of weights in what a file holds."""

import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.models.state_dicts import choose, find, unwrapped

W, V = np.ones(2), np.zeros(2)


def test_every_mapping_with_tensors_is_a_set():
    content = {"net": {"w": W, "epoch": 3}, "deep": {"er": {"v": V}}, 3: {"w": W}, "acc": 0.9}
    found = find(content)
    assert {path: [*tensors] for path, tensors in found.items()} == {"net": ["w"], "deep.er": ["v"]}


@pytest.mark.parametrize(
    "key",
    [
        "module.a.w",
        "_orig_mod.module.a.w",
        "a._fsdp_wrapped_module.w",
        "_forward_module.a._orig_mod.w",
    ],
)
def test_wrappers_are_taken_off(key):
    assert [*unwrapped({key: W})] == ["a.w"]


def test_wrappers_stay_where_two_keys_would_become_one():
    assert [*unwrapped({"a.w": W, "module.a.w": V})] == ["a.w", "module.a.w"]


@pytest.mark.parametrize(
    ("paths", "taken"),
    [
        (["model", "model_ema"], "model"),
        (["model_ema", "model"], "model"),
        (["state_dict_ema", "state_dict"], "state_dict"),
        (["ema_state_dict", "state_dict"], "state_dict"),
        (["teacher", "student"], "student"),
        (["swa_model", "net"], "net"),
        (["best_model", "model"], "model"),
        (["averaged", "mine"], "mine"),
        (["ema"], "ema"),
    ],
)
def test_an_average_comes_last(paths, taken, caplog):
    sets = {path: {"w": np.full(1, place)} for place, path in enumerate(paths)}
    assert choose(sets, "file.pth")["w"] is sets[taken]["w"]
    others = [path for path in paths if path != taken]
    assert ("file.pth: took the weights under" in caplog.text) == bool(others)
    assert all(path in caplog.text for path in others)


def test_sets_of_other_networks_are_passed_over(caplog):
    sets = {"model": {"x": W}, "generator": {"w": W}}
    assert [*choose(sets, "file.pth", coverage=lambda tensors: "w" in tensors)] == ["w"]
    assert not caplog.text


def test_several_sets_alike_are_refused():
    with pytest.raises(InputError, match=r"several sets of weights: a, b; name one as weights_key"):
        choose({"a": {"w": W}, "b": {"w": V}}, "file.pth")


@pytest.mark.parametrize(
    ("key", "taken"),
    [("ema", {"w": V}), ("net", {"a.w": W, "b.w": V}), ("net.b", {"w": V}), ("b", {"w": V})],
)
def test_a_key_names_a_set_or_a_prefix(key, taken):
    sets = {"net": {"a.w": W, "b.w": V}, "ema": {"w": V}}
    chosen = choose(sets, "file.pth", key)
    assert {name: id(value) for name, value in chosen.items()} == {
        name: id(value) for name, value in taken.items()
    }


def test_a_key_that_leads_nowhere_is_answered_with_the_prefixes():
    sets = find({"model.fc.bias": np.zeros(2), "ema.fc.bias": np.zeros(2)})
    with pytest.raises(InputError, match=r"= 'x'; there are keys of model, ema$"):
        choose(sets, "w.pth", "x")
