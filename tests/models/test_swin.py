"""Windows, shifts and padding of Swin Transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.models import swin
from delt_jax.models.swin import PatchMerging, SwinTransformerV2, WindowAttention

pytestmark = pytest.mark.slow

HEADS, CHANNELS = 2, 6
PLAIN, SHIFTED = WindowAttention(HEADS, 0), WindowAttention(HEADS, 4)


def random_map(*sides: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, *sides, CHANNELS))


@pytest.fixture
def variables(x64):
    """Of an attention layer, float64."""
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(PLAIN.init, jax.random.key(0), jnp.zeros((1, 8, 8, CHANNELS)))
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)


def test_offsets_are_spaced_by_their_logarithm():
    table = swin.relative_coords_table()
    assert table.shape == (1, 15, 15, 2)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table[0, 14, 0], [np.log(9) / np.log(8), -np.log(9) / np.log(8)])
    np.testing.assert_allclose(table[0, 8, 7], [np.log(15 / 7) / np.log(8), 0], rtol=1e-6)
    np.testing.assert_array_equal(table, -table[:, ::-1, ::-1])


def test_index_finds_the_offset_of_each_pair():
    index = swin.relative_position_index()
    assert index.shape == (4096,)
    assert index.dtype == np.int64
    index = index.reshape(8, 8, 8, 8)
    assert index[3, 5, 3, 5] == 7 * 15 + 7
    assert index[7, 0, 0, 7] == 14 * 15
    np.testing.assert_array_equal(index[2, 3, 4, 1], index[5, 6, 7, 4])


def test_windows_know_nothing_of_each_other(variables):
    x = random_map(16, 24)
    together = PLAIN.apply(variables, x)
    for top in (0, 8):
        for left in (0, 8, 16):
            window = np.s_[:, top : top + 8, left : left + 8]
            alone = PLAIN.apply(variables, x[window])
            np.testing.assert_allclose(together[window], alone, rtol=1e-9)


def test_shifted_windows_are_cut_at_the_borders(variables):
    x = random_map(16, 16)
    y = SHIFTED.apply(variables, x)
    middle = np.s_[:, 4:12, 4:12]
    np.testing.assert_allclose(y[middle], PLAIN.apply(variables, x[middle]), rtol=1e-9)
    # Border patches share the last windows with those of the opposite border, masked.
    changed = x.copy()
    changed[:, :4, :4] += 1
    difference = np.abs(SHIFTED.apply(variables, changed) - y).max(axis=(0, 3))
    assert (difference[:4, :4] > 1e-3).all()
    difference[:4, :4] = 0
    assert difference.max() < 1e-12


def test_one_window_is_not_shifted(variables):
    x = random_map(7, 8)
    np.testing.assert_array_equal(SHIFTED.apply(variables, x), PLAIN.apply(variables, x))
    wide = random_map(8, 16)  # shifted along the row only
    middle = np.s_[:, :, 4:12]
    np.testing.assert_allclose(
        SHIFTED.apply(variables, wide)[middle], PLAIN.apply(variables, wide[middle]), rtol=1e-9
    )


def test_padding_is_of_zeros(variables):
    x = random_map(5, 3)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 5), (0, 0)))
    expected = PLAIN.apply(variables, padded)[:, :5, :3]
    np.testing.assert_allclose(PLAIN.apply(variables, x), expected, rtol=1e-9)


def test_padding_leaves_gradients_finite():
    # The keys of padding are zero vectors, whose direction has no derivative.
    x = jnp.asarray(random_map(5, 3), jnp.float32)
    variables = PLAIN.init(jax.random.key(0), x)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(variables, x):
        return jnp.sum(PLAIN.apply(variables, x) ** 2)

    leaves = jax.tree.leaves(gradients(variables, x))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_keys_have_no_bias_and_scales_a_limit(variables):
    x = random_map(8, 8)
    y = PLAIN.apply(variables, x)
    bias = variables["params"]["qkv"]["bias"]
    bias[CHANNELS : 2 * CHANNELS] += 1
    np.testing.assert_array_equal(PLAIN.apply(variables, x), y)
    variables["params"]["logit_scale"] = np.full((HEADS, 1, 1), np.log(100))
    limit = PLAIN.apply(variables, x)
    variables["params"]["logit_scale"] = np.full((HEADS, 1, 1), 7.0)
    np.testing.assert_allclose(PLAIN.apply(variables, x), limit, rtol=1e-9)


def test_merging_pads_odd_sides_and_normalises_what_it_made(x64):
    x = random_map(5, 7)
    merging = PatchMerging()
    variables = jax.tree.map(np.float64, merging.init(jax.random.key(0), x))
    y = merging.apply(variables, x)
    assert y.shape == (2, 3, 4, 2 * CHANNELS)
    corners = [x[:, 2, 4], x[:, 3, 4], x[:, 2, 5], x[:, 3, 5]]
    reduced = np.concatenate(corners, axis=-1) @ variables["params"]["reduction"]["kernel"]
    reduced -= reduced.mean(axis=-1, keepdims=True)
    expected = reduced / np.sqrt((reduced**2).mean(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y[:, 1, 2], expected, rtol=1e-9)


def test_stochastic_depth_drops_blocks_of_whole_images():
    module = SwinTransformerV2((2,), (HEADS,), CHANNELS, 3, drop_rate=1.0)
    images = np.random.default_rng(2).normal(size=(2, 12, 12, 3)).astype(np.float32)
    variables = module.init(jax.random.key(0), images)
    first = SwinTransformerV2((1,), (HEADS,), CHANNELS, 3)  # its one block is never dropped
    kept = {k: v for k, v in variables["params"].items() if not k.startswith("features.1.1")}
    logits = module.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_allclose(logits, first.apply({"params": kept}, images), rtol=1e-5, atol=1e-6)


def test_bfloat16_is_near():
    x = jnp.asarray(random_map(9, 12), jnp.float32)
    variables = SHIFTED.init(jax.random.key(0), x)
    y = SHIFTED.apply(variables, x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    expected = SHIFTED.apply(variables, x)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02 * scale)
