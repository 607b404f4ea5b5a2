"""EarlyLate's rounds: the step, compiled for each prefix of slots, over packs and devices.

A round runs on the prefix of slots that have joined; `vmap` runs the class batches of a pack side
by side, `shard_map` splits them over devices, and a call may take many steps.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from delt_jax.core.compiling import compiler_options
from delt_jax.core.packing import Pack
from delt_jax.core.synthesis import Method, Slots, State, Variables, step

CLASS_BATCHES = "class_batches"  # the mesh axis over which packs are split


class Program:
    """The compiled steps of a method: one executable for each number of slots.

    The next round's executable is compiled in the background while a round runs.

    Args:
      method: the parts of the step.
      mesh: devices over whose axis `CLASS_BATCHES` packs are split; None: the default device. There
        is no collective in the loop: class batches are independent.
      steps_per_call: iterations of one call. More than one hides the dispatch of an accelerator; on
        CPU XLA's convolutions lose their threads inside a loop, so 1 is best there.
    """

    def __init__(self, method: Method, mesh: Mesh | None = None, steps_per_call: int = 1):
        self.steps_per_call = steps_per_call
        self.compile_seconds = 0.0  # spent waiting for the compiler
        self._split = self._whole = None
        run = functools.partial(_run_steps, method, steps_per_call)
        if mesh is not None:
            split, whole = PartitionSpec(CLASS_BATCHES), PartitionSpec()
            self._split, self._whole = NamedSharding(mesh, split), NamedSharding(mesh, whole)
            run = jax.shard_map(
                run,
                mesh=mesh,
                in_specs=(whole, split, split, split, whole, whole, whole, whole),
                out_specs=(split, PartitionSpec(None, CLASS_BATCHES)),
                check_vma=False,  # else a loop's zeros would have to be cast to "varying" first
            )
        self._jitted = jax.jit(run, donate_argnums=1)
        self._compiler = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
        self._compiled: dict[tuple[int, ...], Future] = {}

    def place(self, variables: Variables) -> Variables:
        """The teacher's variables on every device; do it once, not at each call."""
        return jax.device_put(variables, self._whole)

    def __call__(
        self,
        variables: Variables,
        state: State,
        slots: Slots,
        keys: Key[Array, "g"],
        t: int,
        learning_rates: np.ndarray,
        min_crops: np.ndarray,
        ahead: int | None = None,
    ) -> tuple[State, dict[str, Array]]:
        """Takes `len(learning_rates)` steps, at most `steps_per_call`, from iteration `t`.

        Args:
          variables: of the teacher.
          state: `[g, n, h, w, c]`; donated.
          slots: `[g, n]`.
          keys: a stream per class batch.
          t: the first iteration.
          learning_rates: of each step, `[steps]`.
          min_crops: of each step, `[steps]`.
          ahead: number of slots that will be wanted next, to be compiled meanwhile.

        Returns:
          The state and the metrics, each `[steps_per_call, g, ...]` (zeros beyond the steps taken).
        """
        steps = len(learning_rates)
        padding = (0, self.steps_per_call - steps)
        dtype = state.images.dtype
        times = (
            jnp.int32(t),
            jnp.int32(steps),
            jnp.asarray(np.pad(learning_rates, padding), dtype),
            jnp.asarray(np.pad(min_crops, padding), dtype),
        )
        # Nothing moves where it is in place already; without a mesh this is the default device.
        arguments = (
            self.place(variables),
            *jax.device_put((state, slots, keys), self._split),
            *jax.device_put(times, self._whole),
        )
        start = time.monotonic()
        executable = self._compile(arguments).result()
        self.compile_seconds += time.monotonic() - start
        if ahead is None:
            return executable(*arguments)
        shapes = _with_slots(arguments, ahead)
        result = executable(*arguments)
        self._compile(shapes)  # after the dispatch, so that tracing too overlaps with the steps
        return result

    def _compile(self, arguments: tuple[Any, ...]) -> Future:
        """The executable for arguments of these shapes, or its promise.

        Traced here, because jax's settings belong to this thread; compiled in the background.
        """
        shape = arguments[1].images.shape
        if shape not in self._compiled:
            lowered = self._jitted.lower(*arguments)
            self._compiled[shape] = self._compiler.submit(lowered.compile, compiler_options())
        return self._compiled[shape]

    def compile(
        self, variables: Variables, pack: Pack, image_size: int, n: int
    ) -> jax.stages.Compiled:
        """The executable for the first `n` slots of a pack, without an array on any device.

        So the devices of the mesh may be those of a machine that is elsewhere
        (`jax.experimental.topologies`, `delt_jax.target.made_for`).

        Args:
          variables: of the teacher; only their shapes count.
          pack: the class batches.
          image_size: S.
          n: slots.
        """

        def shaped(leaf: Any, sharding: NamedSharding | None) -> jax.ShapeDtypeStruct:
            dtype = jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)
            return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

        dtype = jnp.result_type(float)
        images: Any = jax.ShapeDtypeStruct((len(pack.labels), n, image_size, image_size, 3), dtype)
        keys = jax.eval_shape(lambda: pack.keys(jax.random.key(0)))
        number = jax.ShapeDtypeStruct((), jnp.int32)
        of_steps = jax.ShapeDtypeStruct((self.steps_per_call,), dtype)
        split = (State(images, images, images), pack.slots(0, n), keys)
        whole = (number, number, of_steps, of_steps)
        arguments = (
            jax.tree.map(lambda leaf: shaped(leaf, self._whole), variables),
            *jax.tree.map(lambda leaf: shaped(leaf, self._split), split),
            *jax.tree.map(lambda leaf: shaped(leaf, self._whole), whole),
        )
        return self._compile(arguments).result()

    def executables(self) -> dict[tuple[int, int], jax.stages.Compiled]:
        """What has been compiled so far, by class batches and slots; waits for the compiler."""
        return {(g, n): found.result() for (g, n, *_), found in self._compiled.items()}


def _with_slots(arguments: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """The shapes of a program's arguments if there were `n` slots."""

    def shaped(leaf: Array, axis: int | None = None) -> jax.ShapeDtypeStruct:
        shape = leaf.shape if axis is None else (*leaf.shape[:axis], n, *leaf.shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=leaf.sharding)

    variables, state, slots, *rest = arguments
    per_slot = jax.tree.map(functools.partial(shaped, axis=1), (state, slots))
    return (jax.tree.map(shaped, variables), *per_slot, *jax.tree.map(shaped, rest))


def _run_steps(
    method, steps_per_call, variables, state, slots, keys, t, steps, learning_rates, min_crops
):
    """The body of a program: `steps` <= `steps_per_call` iterations of every class batch."""
    n = slots.labels.shape[-1]

    def iterate(state, offset):
        iteration = t + offset

        def one(state, slots, key):
            key = jax.random.fold_in(key, iteration)
            view = method.draw_view(key, iteration, min_crops[offset], n)
            return step(method, variables, state, slots, iteration, learning_rates[offset], view)

        return jax.vmap(one)(state, slots, keys)

    if steps_per_call == 1:
        state, metrics = iterate(state, 0)
        return state, jax.tree.map(lambda leaf: leaf[None], metrics)

    def body(offset, carry):
        state, history = carry
        state, metrics = iterate(state, offset)
        history = jax.tree.map(lambda kept, new: kept.at[offset].set(new), history, metrics)
        return state, history

    shapes = jax.eval_shape(lambda state: iterate(state, 0)[1], state)
    history = jax.tree.map(
        lambda leaf: jnp.zeros((steps_per_call, *leaf.shape), leaf.dtype), shapes
    )
    return jax.lax.fori_loop(0, steps, body, (state, history))


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Where a pack stands after a call of its program.

    Attributes:
      round: the round that the steps belonged to.
      first: iteration of the first step.
      next: iteration that comes next.
      metrics: `[steps, g, ...]`, on the device.
      state: gives the whole state `[g, b, ...]`; only until the next chunk is asked for.
    """

    round: int
    first: int
    next: int
    metrics: dict[str, Array]
    state: Callable[[], State]


def optimise(
    program: Program,
    variables: Variables,
    pack: Pack,
    state: State,
    keys: Key[Array, "g"],
    learning_rates: np.ndarray,
    min_crops: np.ndarray,
    first: int = 0,
    sliced: bool = True,
) -> Iterator[Chunk]:
    """Runs a pack from iteration `first` to its end.

    Args:
      program: the compiled steps.
      variables: of the teacher.
      pack: the class batches.
      state: of all slots, `[g, b, h, w, c]`; donated.
      keys: from `Pack.keys`.
      learning_rates: by iteration, `[T]`.
      min_crops: by iteration, `[T]`.
      first: iteration to go on from (resume).
      sliced: run each round on the prefix of slots that have joined, one program each; False: on
        all slots under the mask, one program for all, for where compiling is dearer than computing.

    Yields:
      A `Chunk` after every call of the program; none crosses the end of a round.
    """
    variables = program.place(variables)
    per_round, total = pack.round_iterations, pack.labels.shape[1]
    for r in range(first // per_round, pack.rounds):
        n = pack.prefix(r) if sliced else total
        slots = pack.slots(r, n)
        part = state if n == total else jax.tree.map(lambda leaf, n=n: leaf[:, :n], state)
        end = (r + 1) * per_round
        ahead = pack.prefix(r + 1) if sliced and r + 1 < pack.rounds else None
        for t in range(max(first, r * per_round), end, program.steps_per_call):
            stop = min(t + program.steps_per_call, end)
            part, metrics = program(
                variables, part, slots, keys, t, learning_rates[t:stop], min_crops[t:stop], ahead
            )
            ahead = None  # asked for once
            metrics = jax.tree.map(lambda leaf, count=stop - t: leaf[:count], metrics)
            merged = functools.partial(_merge, state, part, n, total)
            yield Chunk(r, t, stop, metrics, merged)
        state = _merge(state, part, n, total)


def _merge(state: State, part: State, n: int, total: int) -> State:
    """Puts the optimised prefix back before the slots that have not joined."""
    if n == total:
        return part
    return jax.tree.map(lambda new, old: jnp.concatenate([new, old[:, n:]], axis=1), part, state)
