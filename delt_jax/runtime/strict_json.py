"""JSON that every reader takes: a number that is not finite is null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Returns a value as JSON holds it.

    Arrays and tuples become lists, NumPy and JAX numbers Python's, and NaN and infinity None.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def dumps(value: Any, **options: Any) -> str:
    """Returns strict JSON of `plain(value)`; the options are those of `json.dumps`."""
    return json.dumps(plain(value), allow_nan=False, **options)
