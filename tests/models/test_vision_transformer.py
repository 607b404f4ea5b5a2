"""What is special in the weights of Vision Transformers: old keys, and one side of the images."""

import jax
import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.models.vision_transformer import DeiT, VisionTransformer

SIDE = 32
TORCHVISION, TIMM = VisionTransformer(2, 8, 2, 3), DeiT(2, 8, 2, 3)


def random_variables(module, side: int = SIDE):
    random = np.random.default_rng(0)
    shapes = registry.variable_shapes(module, side)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)


def test_keys_are_those_of_torchvision_and_timm():
    state = torch_weights.to_state_dict(random_variables(TORCHVISION))
    assert state["class_token"].shape == (1, 1, 8)
    assert state["encoder.pos_embedding"].shape == (1, 5, 8)
    block = "encoder.layers.encoder_layer_1"
    assert state[f"{block}.self_attention.in_proj_weight"].shape == (24, 8)
    assert state[f"{block}.self_attention.out_proj.bias"].shape == (8,)
    assert state[f"{block}.mlp.0.weight"].shape == (32, 8)
    state = torch_weights.to_state_dict(random_variables(TIMM))
    assert state["pos_embed"].shape == (1, 5, 8)
    assert state["blocks.1.attn.qkv.weight"].shape == (24, 8)


def test_reads_the_keys_of_published_files():
    variables = random_variables(TORCHVISION)
    state = torch_weights.to_state_dict(variables)
    old = {
        key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for key, value in state.items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_2.bias" in old
    again = torch_weights.from_state_dict(TORCHVISION, SIDE, old)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize("module", [TORCHVISION, TIMM])
def test_refuses_the_weights_of_another_side(module):
    state = torch_weights.to_state_dict(random_variables(module, 224))
    with pytest.raises(InputError, match="they are for images of side 224, expected 32"):
        torch_weights.from_state_dict(module, SIDE, state)


def test_refuses_sides_that_leave_part_of_a_patch():
    with pytest.raises(InputError, match="deit_tiny: images of side 40, expected a multiple of 16"):
        registry.create("deit_tiny", 10, 40)


def test_tokens_attend_to_each_other_whatever_their_order(x64):
    # Without its position a patch is one of a set: permuting the patches changes nothing.
    variables = jax.tree.map(np.float64, random_variables(TORCHVISION))
    variables["params"]["encoder.pos_embedding"] *= 0
    images = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3))
    swapped = np.concatenate([images[:, :, 16:], images[:, :, :16]], axis=2)
    changed = np.concatenate([images[:, :, :16], images[:, :, :16]], axis=2)
    logits = TORCHVISION.apply(variables, images)
    np.testing.assert_allclose(TORCHVISION.apply(variables, swapped), logits, rtol=1e-9)
    assert np.abs(TORCHVISION.apply(variables, changed) - logits).max() > 1e-3
