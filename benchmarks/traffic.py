"""What a compiled program moves through memory, counted in its optimised HLO.

For machines that are elsewhere, whose compilers do not all count it themselves. Every operation
that XLA left after fusion reads its operands and writes its results, as if no cache kept any.
"""

import collections
import dataclasses
import re

from benchmarks import profiles

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4}
BYTES |= {"f32": 4, "s64": 8, "u64": 8, "f64": 8}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")

_SHAPE = re.compile(rf"\b({'|'.join(BYTES)})\[([\d,]*)\]")
_COMPUTATION = re.compile(r"\n(?=(?:ENTRY )?%[\w.\-]+ \()")
_OPERATION = re.compile(
    r"\s+(?:ROOT )?%?(?P<name>\S+) = "
    r"(?P<result>\((?:[^()]|\([^()]*\))*\)|\S+) (?P<kind>[a-z][\w\-]*)\((?P<operands>[^)]*)"
)
# That move nothing, or whose movement is counted where it was begun or inside of them.
_STILL = ("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "while", "call")
_STILL += ("conditional", "copy-done", "slice-done", "async-done", "after-all", "iota")
_WORKSPACE = re.compile(r", [su]8\[\d+\]\{0\}(?=\)$)")  # that a library call asks for and may leave


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that the largest computation of a program moves: the body of its loop, if it has one.

    Attributes:
      bytes: in all.
      kinds: by kind of operation, as `profiles.kind_of` names them, and "prefetch" for what is
        brought closer to where it is computed while something else runs.
      operations: that move anything.
      collectives: operations between devices, in the whole program.
    """

    bytes: int
    kinds: dict[str, int]
    operations: int
    collectives: int


def traffic(text: str) -> Traffic:
    """Counts a program.

    Args:
      text: of `jax.stages.Compiled.as_text`.
    """
    computations = (_moved(block) for block in _COMPUTATION.split(text))
    largest = max(computations, key=lambda moved: sum(size for _, size in moved))
    kinds: collections.Counter[str] = collections.Counter()
    for kind, size in largest:
        kinds[kind] += size
    collectives = len(re.findall(rf" (?:{'|'.join(COLLECTIVES)})(?:-start)?\(", text))
    return Traffic(sum(kinds.values()), dict(kinds.most_common()), len(largest), collectives)


def _moved(block: str) -> list[tuple[str, int]]:
    """Kind and bytes of each operation of a computation; none of what is fused into one."""
    if block.lstrip().startswith(("%fused", "%wrapped")):
        return []
    sizes: dict[str, int] = {}
    moved = []
    for line in block.splitlines()[1:]:
        operation = _OPERATION.match(line)
        if operation is None:
            continue
        name, kind = operation["name"], operation["kind"]
        sizes[name] = _bytes(_WORKSPACE.sub("", operation["result"]))
        if kind in _STILL:
            continue
        if kind in ("copy-start", "slice-start"):  # its result names source and destination
            moved.append(("prefetch", sizes[name]))
            continue
        operands = re.findall(r"%([\w.\-]+)", operation["operands"])
        size = sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
        moved.append((profiles.kind_of(f"{kind} {name}"), size))
    return moved


def _bytes(shape: str) -> int:
    """Of a shape, or of all shapes of a tuple, as HLO writes them."""
    total = 0
    for dtype, sides in _SHAPE.findall(shape):
        size = BYTES[dtype]
        for side in filter(None, sides.split(",")):
            size *= int(side)
        total += size
    return total
