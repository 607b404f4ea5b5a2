"""Safetensors files whose bytes are decided by what they hold."""

import json
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from delt_jax.runtime import strict_json


def tensor_file(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of some arrays; the same ones give the same bytes.

    The library (0.8) takes the metadata in the order of a hash table that is seeded anew in each
    process, so the sums of two equal files would differ. Here it is sorted.

    Args:
      tensors: by name.
      metadata: texts by name.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = safetensors.numpy.save(whole, dict(metadata))
    size = int.from_bytes(data[:8], "little")  # of the header, a JSON object that blanks fill up
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = strict_json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays are aligned as the library aligns them
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
