"""Where device time goes: a trace of jax.profiler, added up by kind of operation."""

import collections
import dataclasses
import pathlib
import re

from jax.profiler import ProfileData

LONGEST = 15  # operations that are named
# The first whose pattern is found in an operation's name, or in its kernel's, is its kind.
KINDS = {
    "convolution": r"conv(?!ert)|[dw]grad|fprop|cudnn|ynn_fusion",
    "matrix product": r"gemm|dot|matmul|cublas|cutlass|nvjet",
    "layout change": r"transpose|copy|nchw|nhwc|memcpy",
    "window": r"window|select.and.scatter",
    "reduction": r"reduce",
    "element-wise": r"fusion|wrapped|add|multiply|select|compare|pad|slice|convert|broadcast",
}


@dataclasses.dataclass(frozen=True)
class DeviceTime:
    """Seconds of a trace by kind of operation, and of the longest operations by name."""

    kinds: dict[str, float]
    longest: dict[str, float]


def device_time(folder: pathlib.Path) -> DeviceTime:
    """Adds up a trace.

    On a CPU, operations that run at the same time count each, and one that waits for others counts
    with them: shares of the sum say more than the sum.

    Args:
      folder: that `jax.profiler.trace` wrote to.
    """
    (file,) = folder.rglob("*.xplane.pb")
    by_name: collections.Counter[tuple[str, str]] = collections.Counter()
    for plane in ProfileData.from_file(str(file)).planes:
        lines = list(plane.lines)
        # Beside the streams, a GPU's plane repeats their events in lines of its own making.
        streams = [line for line in lines if line.name.startswith("Stream")]
        for line in streams or lines:
            for event in line.events:
                # All that a GPU's streams do counts; of a CPU's threads, operations of programs.
                operation = dict(event.stats).get("hlo_op", event.name if streams else None)
                if operation is not None:
                    name = re.sub(r"(\.\d+|\.clone|_\d+)+$", "", str(operation))
                    by_name[name, event.name] += event.duration_ns
    kinds: collections.Counter[str] = collections.Counter()
    longest: collections.Counter[str] = collections.Counter()
    for (name, kernel), nanoseconds in by_name.items():
        kinds[kind_of(name, kernel)] += nanoseconds
        longest[name] += nanoseconds
    return DeviceTime(
        {kind: time / 1e9 for kind, time in kinds.most_common()},
        {name: time / 1e9 for name, time in longest.most_common(LONGEST)},
    )


def kind_of(operation: str, kernel: str = "") -> str:
    """The kind of an operation of compiled HLO, by its name and that of the kernel that runs it."""
    text = f"{operation} {kernel}".lower()
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, text)), "other")
