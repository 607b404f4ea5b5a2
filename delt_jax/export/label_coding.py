"""How the logits of stored labels are kept: all or the largest, in float16 or int8.

A labelled image is kept as

    logits   [n, m]  float16 or int8    m = k classes; top-k: the largest, then what the rest get
    indices  [n, t]  unsigned           top-k alone: the classes of the largest, largest first
    scales   [n]     float16            int8 alone: a logit is its code times the image's scale

int8 centres an image's logits on the middle of their range, and so keeps them but for a constant
that no softmax sees. An error is at most half a scale: 1/508 of the range.

The rest of top-k all get the one value that leaves them their share of the softmax at the
temperature of the students.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

DTYPES = ("float16", "int8")
_LARGEST_CODE = 127


@dataclasses.dataclass(frozen=True)
class LabelCoding:
    """How logits are kept.

    Attributes:
      top_k: how many of an image's logits; 0: all.
      dtype: one of `DTYPES`.
      temperature: at which top-k keeps the share of the rest exactly.
    """

    top_k: int = 0
    dtype: str = "float16"
    temperature: float = 1.0

    def encode(self, logits: Float[np.ndarray, "n k"]) -> dict[str, np.ndarray]:
        """The tensors that keep these logits, as the module says."""
        values, found = np.asarray(logits, np.float32), {}
        if self.top_k:
            classes = values.shape[1]
            ranked = np.argsort(-values, axis=1, kind="stable")
            rest = np.take_along_axis(values, ranked[:, self.top_k :], axis=1)
            largest = rest[:, :1]
            share = np.exp((rest - largest) / self.temperature).mean(axis=1, keepdims=True)
            indices = ranked[:, : self.top_k]
            values = np.concatenate(
                [
                    np.take_along_axis(values, indices, axis=1),
                    largest + self.temperature * np.log(share),
                ],
                axis=1,
            )
            found["indices"] = indices.astype(smallest_unsigned(classes - 1))
        if self.dtype == "float16":
            return {"logits": values.astype(np.float16), **found}
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        exact = (high - low) / (2 * _LARGEST_CODE)
        scales = exact.astype(np.float16)
        scales = np.where(scales < exact, np.nextafter(scales, np.float16(np.inf)), scales)
        codes = (values - (low + high) / 2) / np.maximum(scales.astype(np.float32), 1e-9)
        return {"logits": np.rint(codes).astype(np.int8), **found, "scales": scales[:, 0]}

    def image_bytes(self, classes: int) -> int:
        """Of one labelled image."""
        kept = self.top_k + 1 if self.top_k else classes
        size = 2 * kept if self.dtype == "float16" else kept + 2
        return size + self.top_k * np.dtype(smallest_unsigned(classes - 1)).itemsize

    def describe(self, classes: int) -> str:
        """Of one labelled image, for people."""
        if not self.top_k:
            return f"{classes:,} {self.dtype} logits"
        return f"the {self.top_k} largest of {classes:,} {self.dtype} logits"


PLAIN = LabelCoding()


def decode(tensors: Mapping[str, np.ndarray], classes: int) -> Float[np.ndarray, "*n k"]:
    """The logits that `LabelCoding.encode` kept: float16 where nothing was left out, else float32.

    Args:
      tensors: "logits", and "indices" and "scales" where they are there; axes before those of the
        images are kept.
      classes: k.
    """
    values = tensors["logits"]
    if "scales" in tensors:
        values = values.astype(np.float32) * tensors["scales"].astype(np.float32)[..., None]
    if "indices" not in tensors:
        return values
    full = np.repeat(values[..., -1:], classes, axis=-1)
    np.put_along_axis(full, tensors["indices"].astype(np.int64), values[..., :-1], axis=-1)
    return full.astype(np.float32)


def smallest_unsigned(largest: int) -> type[np.unsignedinteger]:
    """The dtype of the fewest bytes that holds integers from 0 to `largest`."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        if largest <= np.iinfo(dtype).max:
            return dtype
    raise ValueError(f"{largest} does not fit into 32 bits")
