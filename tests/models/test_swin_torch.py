"""Window attention against torchvision's where the parity of whole networks does not go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.models.swin import WindowAttention

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("sides", [(8, 20), (9, 20), (17, 5), (24, 16)])
def test_sides_that_differ_and_scales_beyond_the_limit(sides, torchvision, x64):
    heads, channels = 2, 6
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *sides, channels))
    ours = WindowAttention(heads, 4)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), jnp.asarray(x))["params"]
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)
    params["logit_scale"] = np.array([4.0, 6.0]).reshape(heads, 1, 1)  # log(100) is 4.6

    module = torchvision.models.swin_transformer.ShiftedWindowAttentionV2
    theirs = module(channels, [8, 8], [4, 4], heads).double()
    state = {"logit_scale": params["logit_scale"]}
    for name in ("qkv", "proj", "cpb_mlp.0", "cpb_mlp.2"):
        for leaf, value in params[name].items():
            state[f"{name}.{leaf.replace('kernel', 'weight')}"] = value.T
    unread = theirs.load_state_dict(
        {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in state.items()},
        strict=False,
    )
    assert unread.missing_keys == ["relative_coords_table", "relative_position_index"]
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    actual = ours.apply({"params": params}, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
