"""A trained network with what it takes to use it, and its folder on disk."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import safetensors.numpy
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights, weight_files
from delt_jax.runtime.workdir import WorkDir

SCHEMA_VERSION = 1
CARD = "card.json"
WEIGHTS = "weights.safetensors"
_LARGEST = 100_000  # classes, and pixels of a side, that a card may name


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network, its weights and its card.

    Attributes:
      arch: its name in `delt_jax.models.registry.NAMES`.
      num_classes: k, the number of logits.
      image_size: side in pixels of the images that it was trained on.
      variables: `{"params": ..., "batch_stats": ...}`.
      mean: mean of its input statistics, per channel of pixels in [0, 1].
      std: deviation of its input statistics; images are `(pixels - mean) / std`.
      class_names: k names, or empty where they are not known.
      top1: accuracy on its test set in percent, or None where it was not measured.
      recipe: how it came about, anything that JSON can hold.
    """

    arch: str
    num_classes: int
    image_size: int
    variables: dict
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    top1: float | None = None
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def module(self) -> nn.Module:
        """The Linen module; equal ones hash alike, so that it can be a static argument of jit."""
        return registry.create(self.arch, self.num_classes, self.image_size)

    def apply(self, images: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        """Logits of normalised images, in inference mode."""
        logits = self.module.apply(self.variables, jnp.asarray(images))
        return cast(Array, logits)


_CARD_KEYS = (
    *(field.name for field in dataclasses.fields(Network) if field.name != "variables"),
    "weights",
    "sha256",
)


def save_network(network: Network, directory: str | Path) -> None:
    """Writes `weights.safetensors` (torch layout) and `card.json`, each whole or not at all.

    The card comes last and holds the weights' SHA-256, so that one which agrees means completeness.
    """
    files = WorkDir(directory)
    weights = safetensors.numpy.save(torch_weights.to_state_dict(network.variables))
    files.write_bytes(files.path / WEIGHTS, weights)
    card = {
        "schema_version": SCHEMA_VERSION,
        "arch": network.arch,
        "num_classes": network.num_classes,
        "image_size": network.image_size,
        "mean": network.mean,
        "std": network.std,
        "class_names": network.class_names,
        "top1": network.top1,
        "recipe": network.recipe,
        "weights": WEIGHTS,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    files.write_json(files.path / CARD, card)


def _check_card(card: dict[str, Any], path: Path) -> None:
    """Refuses a card that `save_network` has not written: it may come from a stranger."""
    absent = [key for key in _CARD_KEYS if key not in card]
    if absent:
        raise InputError(f"{path}: lacks {', '.join(absent)}")

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def are_channels(value: Any) -> bool:
        if not isinstance(value, list) or len(value) != 3:
            return False
        return all(is_number(number) and abs(number) < _LARGEST for number in value)  # no NaN

    def is_count(value: Any) -> bool:
        return type(value) is int and 1 <= value <= _LARGEST

    names, classes = card["class_names"], card["num_classes"]
    for key, is_sound, expected in (
        ("arch", isinstance(card["arch"], str), "the name of an architecture"),
        ("num_classes", is_count(classes), f"1 to {_LARGEST}"),
        ("image_size", is_count(card["image_size"]), f"1 to {_LARGEST}"),
        ("mean", are_channels(card["mean"]), "three numbers"),
        ("std", are_channels(card["std"]) and min(card["std"]) > 0, "three numbers above 0"),
        (
            "class_names",
            isinstance(names, list)
            and len(names) in (0, classes)
            and all(isinstance(name, str) for name in names),
            "a name for each class, or none",
        ),
        ("top1", card["top1"] is None or is_number(card["top1"]), "percent, or null"),
        ("recipe", isinstance(card["recipe"], dict), "an object"),
        ("weights", card["weights"] == WEIGHTS, repr(WEIGHTS)),  # never a path to elsewhere
        ("sha256", isinstance(card["sha256"], str), "hexadecimal digits"),
    ):
        if not is_sound:
            raise InputError(f"{path}: {key} {str(card[key])[:80]!r}, expected {expected}")


def load_network(directory: str | Path) -> Network:
    """Reads what `save_network` wrote.

    Raises:
      InputError: where the card or the weights are absent, damaged, of a later schema, or do not
        belong together.
    """
    files = WorkDir(directory)
    card_path = files.path / CARD
    if not card_path.is_file():
        raise InputError(f"{card_path}: no such file, expected a network that was saved here")
    card = files.read_json(card_path)
    version = card.get("schema_version") if isinstance(card, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{card_path}: schema_version {version}, expected {SCHEMA_VERSION}")
    _check_card(card, card_path)

    weights_path = files.path / card["weights"]
    if not weights_path.is_file():
        raise InputError(f"{weights_path}: no such file, expected the weights of {card_path}")
    weights = weights_path.read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    if digest != card["sha256"]:
        raise InputError(
            f"{weights_path}: SHA-256 {digest}, expected {card['sha256']} (from {card_path})"
        )
    module = registry.create(card["arch"], card["num_classes"], card["image_size"])
    return Network(
        arch=card["arch"],
        num_classes=card["num_classes"],
        image_size=card["image_size"],
        variables=torch_weights.from_state_dict(
            module,
            card["image_size"],
            weight_files.parse_safetensors(weights),
            source=str(weights_path),
        ),
        mean=tuple(card["mean"]),
        std=tuple(card["std"]),
        class_names=tuple(card["class_names"]),
        top1=card["top1"],
        recipe=card["recipe"],
    )
