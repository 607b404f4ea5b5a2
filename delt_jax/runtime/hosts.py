"""Several hosts on one run: who is who, waiting for one another, noticing that one is lost.

Each host drives its own devices and works on its own share: class batches, images to rank,
students. There is no collective between them; they meet at the ends of stages. `jax.distributed`
tells them apart and holds the notes below; the results go to the work directory, which they share.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime import strict_json

BEAT_SECONDS = 2.0  # between two signs of life
POLL_SECONDS = 0.2  # between two looks at the notes while waiting
SEEN_SECONDS = 60.0  # until what another host wrote must be seen on a shared file system

Item = TypeVar("Item")


class Hosts:
    """The hosts of a run, as one of them sees the others.

    Args:
      index: of this host.
      count: of all; 1: there are no others, and nothing here waits or talks.
      timeout: seconds without a sign of life after which a host is taken for lost.
    """

    def __init__(self, index: int = 0, count: int = 1, timeout: float = 60.0):
        self.index, self.count, self._timeout = index, count, timeout
        self._uses: dict[str, int] = {}
        self._end: InputError | Interrupted | None = None  # of this one, because of another
        self._silent: set[int] = set()  # for whom nobody needs to wait
        self._left = threading.Event()
        if count > 1:
            self._beat(0)
            self._watcher = threading.Thread(target=self._watch, name="hosts", daemon=True)
            self._watcher.start()

    @property
    def is_first(self) -> bool:
        """Whether this host does what only one may do: decide, and write what is not its share."""
        return self.index == 0

    def dealt(self, items: Sequence[Item]) -> Sequence[Item]:
        """This host's share: items that follow one another, as many as others have, or one more."""
        size, more = divmod(len(items), self.count)
        start = self.index * size + min(self.index, more)
        return items[start : start + size + (self.index < more)]

    def agree(self, name: str, value: Any) -> Any:
        """What the first host thinks; of JSON. Others may have seen the shared folder later."""
        if self.count == 1:
            return value
        key = self._key("agree", name)
        if self.is_first:
            self._set(key, strict_json.dumps(value))
            return value
        return json.loads(self._await(key))

    def wait(self, name: str) -> None:
        """Returns when every host has come here."""
        self.gather(name, None)

    def gather(self, name: str, value: Any) -> list[Any]:
        """Returns what every host gives, of JSON, in the order of the hosts; waits for all."""
        if self.count == 1:
            return [value]
        key = self._key("wait", name)
        self._set(f"{key}/{self.index}", strict_json.dumps(value))
        return [json.loads(self._await(f"{key}/{other}")) for other in range(self.count)]

    @property
    def is_broken(self) -> bool:
        """Whether another host is lost or has stopped."""
        return self._end is not None

    def check(self) -> None:
        """Raises where another host is lost or has stopped.

        Raises:
          InputError: where it was a mistake that stopped it: no host is to start again.
          Interrupted: else.
        """
        if self._end:
            raise self._end

    def leave(self, error: str = "", is_mistake: bool = False) -> None:
        """Ends this host's part, the first host's last of all; the others learn of an error.

        Args:
          error: in words.
          is_mistake: whether it is one that another start would meet again.
        """
        if self.count == 1 or self._left.is_set():
            return
        self._left.set()
        try:
            if error:
                self._set(f"stopped/{self.index}", strict_json.dumps([error, is_mistake]))
            self._set(f"left/{self.index}", "left")
            self._watcher.join(3 * BEAT_SECONDS)  # it must not ask for notes that are gone
            if self.is_first:  # which holds the notes: without them JAX aborts who is still saving
                deadline = time.monotonic() + self._timeout
                while time.monotonic() < deadline and not all(
                    self._get(f"left/{other}") for other in set(range(self.count)) - self._silent
                ):
                    time.sleep(POLL_SECONDS)
                time.sleep(BEAT_SECONDS)  # for the last of them to hang up
            jax.distributed.shutdown()
        except jax.errors.JaxRuntimeError:
            pass  # the notes are gone with the first host

    def _key(self, kind: str, name: str) -> str:
        """A name for this meeting: all hosts come to the same ones in the same order."""
        self._uses[f"{kind}/{name}"] = use = self._uses.get(f"{kind}/{name}", 0) + 1
        return f"{kind}/{name}/{use}"

    def _await(self, key: str) -> str:
        while (value := self._get(key)) is None:
            self.check()
            time.sleep(POLL_SECONDS)
        return value

    def _watch(self) -> None:
        """Gives signs of life, and looks for those of the others."""
        seen: dict[int, tuple[str, float]] = dict.fromkeys(
            set(range(self.count)) - {self.index}, ("", time.monotonic())
        )
        beats = 0
        while not self._left.wait(BEAT_SECONDS):
            try:
                self._beat(beats := beats + 1)
                for other, (before, since) in seen.items():
                    if note := self._get(f"stopped/{other}"):
                        stopped, is_mistake = json.loads(note)
                        self._end_with(other, f"stopped: {stopped}", is_mistake)
                        return
                    beat = self._get(f"alive/{other}") or ""
                    if beat != before or self._get(f"left/{other}"):
                        seen[other] = beat, time.monotonic()
                    elif time.monotonic() - since > self._timeout:
                        self._silent.add(other)
                        self._end_with(
                            other, f"is lost (no sign of life for {self._timeout:.0f} s)"
                        )
                        return
            except jax.errors.JaxRuntimeError as error:
                self._end_with(0, f"is lost ({str(error).splitlines()[0]})")
                return

    def _end_with(self, other: int, why: str, is_mistake: bool = False) -> None:
        """Lets this host end because another one has."""
        line = (
            f"host {other} of {self.count} {why}; this one, {self.index} of {self.count}, ends too"
        )
        goes_on = "the same command goes on, on as many hosts as there are then"
        self._end = (
            InputError(line)
            if is_mistake
            else Interrupted(f"{line}. What is done is kept: {goes_on}")
        )

    def _beat(self, number: int) -> None:
        self._set(f"alive/{self.index}", str(number))

    def _set(self, key: str, value: str) -> None:
        _notes().key_value_set(f"delt_jax/{key}", value, allow_overwrite=True)

    def _get(self, key: str) -> str | None:
        try:
            return _notes().key_value_try_get(f"delt_jax/{key}")
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise


def seen(look: Callable[[], Item], is_whole: Callable[[Item], bool], what: str) -> Item:
    """What `look` finds in the work directory, once it is whole: a shared file system may lag.

    Raises:
      TimeoutError: where it is not within a minute, naming `what`.
    """
    deadline = time.monotonic() + SEEN_SECONDS
    while not is_whole(found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not all of it is there after {SEEN_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return found


def _notes() -> Any:
    """The key-value store of `jax.distributed`, for which JAX has no public name."""
    from jax._src import distributed

    return distributed.global_state.client


_current = Hosts()


def current() -> Hosts:
    """The hosts of this run; this one alone unless `join` was called."""
    return _current


def join(address: str, timeout: float = 60.0) -> Hosts:
    """Joins the other hosts of a run; before anything else is done with JAX.

    Args:
      address: "" for a run on one host; "auto" where JAX finds the others by itself (TPU pods,
        Slurm, Open MPI, Kubernetes); else "ADDRESS:PORT,INDEX/COUNT", the first host's address and
        this host's place, as "10.0.0.1:8476,0/2".
      timeout: see `Hosts`.

    Raises:
      InputError: where the address is none of these, or the others are not found.
    """
    global _current
    if not address:
        return _current
    arguments: dict[str, Any] = {}
    if address != "auto":
        match = re.fullmatch(r"(\S+:\d+),(\d+)/(\d+)", address)
        if not match or not int(match[2]) < int(match[3]):
            raise InputError(
                f"--hosts: got {address!r}, expected auto or ADDRESS:PORT,INDEX/COUNT with INDEX "
                "from 0, as 10.0.0.1:8476,0/2"
            )
        arguments = {
            "coordinator_address": match[1],
            "process_id": int(match[2]),
            "num_processes": int(match[3]),
            "cluster_detection_method": "deactivate",
        }
        if int(match[3]) == 1:
            return _current
    # Else JAX aborts every process when one is lost, before it can say so or save anything.
    jax.config.update("jax_enable_recoverability", True)
    # Else JAX takes SIGTERM for itself, to be asked about it by name, and `interruption` hears of
    # none: nothing would be saved.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            heartbeat_timeout_seconds=max(10, round(timeout)),
            shutdown_timeout_seconds=30,
            **arguments,
        )
        index, count = jax.process_index(), jax.process_count()  # meets the others
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--hosts={address}: the hosts do not find one another ({reason}); expected the same "
            "command on every host, each with its own INDEX or in a cluster that JAX knows"
        ) from error
    _current = Hosts(index, count, timeout)
    return _current
