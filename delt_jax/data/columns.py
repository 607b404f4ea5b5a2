"""The columns of a table of images: which one is the image, and which one its class."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import pyarrow as pa

from delt_jax.errors import InputError

# What a column of classes is called, by numbers or by names; the first of several wins.
LABEL_COLUMNS = (
    *("label", "labels", "fine_label", "class", "classes", "target", "targets", "category", "y"),
    *("label_id", "class_id", "category_id", "class_label", "class_name", "label_name"),
)
_INDEX = re.compile(r"__index_level_\d+__")  # pandas' row numbers


class UnlabelledError(InputError):
    """Images that have no class; another split may have some that do."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where images and labels are, and what the classes are called if the file says so."""

    image: str
    label: str
    is_struct: bool
    is_text: bool
    class_names: tuple[str, ...] | None

    @property
    def image_leaf(self) -> str:
        """Path of the encoded bytes."""
        return f"{self.image}.bytes" if self.is_struct else self.image


def find_columns(schema: pa.Schema, file: pathlib.Path) -> Columns:
    """Finds the columns of the image and of its class.

    Args:
      schema: of the table.
      file: that it is in, for errors.

    Raises:
      UnlabelledError: where there is an image and nothing that could be its class.
      InputError: where there is no image, or more than one.
    """
    features = _features(schema)
    known = {field.name: field.name.lower() in LABEL_COLUMNS for field in schema}
    images = [
        field
        for field in schema
        if _is_image(field.type) and (pa.types.is_struct(field.type) or not known[field.name])
    ]
    rest = [field for field in schema if field not in images and not _INDEX.match(field.name)]
    numbers = [field.name for field in rest if pa.types.is_integer(field.type)]
    declared = [name for name in numbers if features.get(name, {}).get("_type") == "ClassLabel"]
    labels = declared or [
        field.name
        for field in rest
        if known[field.name] and (field.name in numbers or _is_text(field.type))
    ]
    if not labels and len(rest) == 1:  # nothing beside it that could be meant
        labels = numbers
    if len(labels) > 1:
        order = {name: place for place, name in enumerate(LABEL_COLUMNS)}
        labels = sorted(
            (name for name in labels if known[name]), key=lambda name: order[name.lower()]
        )[:1]
    if len(images) != 1 or len(labels) != 1:
        found = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise (UnlabelledError if len(images) == 1 and not labels else InputError)(
            f"{file}: columns {found}; expected one image (a struct with bytes) and one label, "
            "integers or texts in a column called label, class or the like"
        )
    names = features.get(labels[0], {}).get("names")
    return Columns(
        image=images[0].name,
        label=labels[0],
        is_struct=pa.types.is_struct(images[0].type),
        is_text=labels[0] not in numbers,
        class_names=tuple(map(str, names)) if names else None,
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    texts = (pa.types.is_string, pa.types.is_large_string)
    return any(is_kind(kind) for is_kind in (*texts, pa.types.is_binary, pa.types.is_large_binary))


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_image(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What the library `datasets` says of the columns; nothing where another one wrote the file."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    known = about.items() if isinstance(about, dict) else ()
    return {name: feature for name, feature in known if isinstance(feature, dict)}
