"""What a result was made from, as one hash: the same inputs give the same one."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from delt_jax.runtime import strict_json


def fingerprint(settings: Mapping[str, Any], *arrays: Any) -> str:
    """SHA-256, in hexadecimal, of JSON values and of arrays with their dtypes and shapes."""
    digest = hashlib.sha256(strict_json.dumps(settings, sort_keys=True).encode())
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
