"""What is done to a run: kinds of faults, how a start may end after each, how each is undone."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import time

from tests.torture.snapshot import is_half_written, is_under_way
from tests.torture.starts import POLL_SECONDS, STAGES, Start, can_drop_privileges, modified

MISTAKE, INTERRUPTED = 2, 75  # delt_jax.runtime.command_line
SECOND_SECONDS = 100  # a second run that is not refused until then is none that will be
SOURCE_STAGES = ("squeeze", "select")  # those that read images through worker processes
CHECKPOINTED = ("squeeze", "synthesize", "evaluate")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
      name: for --faults.
      what: in a few words.
      endings: exit statuses of the start that it hits, negative for a signal; 0: it goes on. See
        `endings`.
      weight: how many of it there are in each stage for one of the others.
      stages: that it may hit; (): all.
      output: what the start's output goes to.
      flags: of that start.
    """

    name: str
    what: str
    endings: tuple[int, ...]
    weight: int = 1
    stages: tuple[str, ...] = ()
    output: str = "file"
    flags: tuple[str, ...] = ()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("kill", "SIGKILL", (-signal.SIGKILL,), 3),
        Kind("term", "SIGTERM", (INTERRUPTED,), 3),
        Kind("hup", "SIGHUP", (INTERRUPTED,)),
        Kind("terminal", "the terminal is closed", (INTERRUPTED,), output="terminal"),
        Kind("pipe", "what reads the output ends", (0,), output="pipe"),
        Kind("disk", "the disk is full", (INTERRUPTED, 0)),
        Kind("filesize", "files may not grow (RLIMIT_FSIZE)", (INTERRUPTED, 0)),
        Kind("readonly", "the folders are read-only", (MISTAKE, 0)),
        # Whoever asks for memory first: Python, XLA (abort) or a library that does not look.
        Kind(
            "memory",
            "no more memory (RLIMIT_AS)",
            (MISTAKE, INTERRUPTED, 0, 1, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL),
        ),
        Kind(
            "worker",
            "a worker process is killed",
            (MISTAKE, INTERRUPTED, 0),
            stages=SOURCE_STAGES,
            flags=("--config.data.workers=1",),
        ),
        Kind(
            "corrupt",
            "SIGKILL, and the newest checkpoint is damaged",
            (-signal.SIGKILL,),
            stages=CHECKPOINTED,
        ),
        Kind("second", "the same command is started twice", (0,), stages=CHECKPOINTED),
        Kind("partial", "SIGKILL, and half-written files are left", (-signal.SIGKILL,)),
    )
}
SIGNALS = {
    "kill": signal.SIGKILL,
    "corrupt": signal.SIGKILL,
    "partial": signal.SIGKILL,
    "term": signal.SIGTERM,
    "hup": signal.SIGHUP,
}


def why_not(kind: str, small_disk: bool) -> str:
    """Why a kind of fault cannot be provoked on this machine; "" where it can."""
    if kind == "disk" and not small_disk:
        return "a small disk cannot be mounted (root on Linux can); filesize stands in for it"
    if kind in ("filesize", "memory") and not hasattr(resource, "prlimit"):
        return "limits of another process cannot be set (Linux can)"
    if kind == "readonly" and not can_drop_privileges():
        return "root writes into read-only folders, and there is no setpriv to hinder it"
    if kind == "worker" and not pathlib.Path("/proc/self/stat").exists():
        return "processes cannot be listed (no /proc)"
    return ""


class Fault:
    """A fault of some kind, inflicted on a start of the run and undone once that has ended.

    Attributes:
      problem: what is not in order with something else than the end of the start; "" for nothing.

    Args:
      kind: of the fault.
      start: the process that it hits.
      random_: decides all that is left to chance.
    """

    def __init__(self, kind: Kind, start: Start, random_: random.Random):
        self.kind, self._start, self._random = kind, start, random_
        self._undo, self.problem = contextlib.ExitStack(), ""

    def is_ready(self) -> bool:
        """Waits, where the fault needs something to hit; whether that is there."""
        name = self.kind.name
        if name == "worker":
            while self._start.is_running and not _workers(self._start.process.pid):
                time.sleep(0.05)
            return self._start.sleep(self._random.uniform(0, 1))
        if name == "corrupt":
            while self._start.is_running and not checkpoints(self._start.workdir):
                time.sleep(POLL_SECONDS)
            return self._start.sleep(self._random.uniform(0, 0.6))
        return self._start.is_running

    def inflict(self) -> bool:
        """Does it, to a process that runs; whether there was anything to do it to."""
        start, name, pid = self._start, self.kind.name, self._start.process.pid
        if name in SIGNALS:
            start.process.send_signal(SIGNALS[name])
        elif name in ("terminal", "pipe"):
            start.hang_up()
        elif name == "second":
            self.problem = _start_second(start)
        elif name == "disk":
            self._undo.callback(_fill(start.workdir, self._random.choice((0, 4, 16, 64))).unlink)
        elif name == "filesize":
            size = self._random.choice((0, 100, 4_000, 30_000))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
        elif name == "memory":
            size = _virtual_bytes(pid) + self._random.randrange(0, 64 << 20)
            resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
        elif name == "readonly":
            for folder in (start.workdir, *(p for p in start.workdir.rglob("*") if p.is_dir())):
                with contextlib.suppress(FileNotFoundError):  # a temporary one
                    self._undo.callback(_set_mode, folder, folder.stat().st_mode)
                    folder.chmod(0o555)
        elif name == "worker":
            workers = _workers(pid)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            return bool(workers)
        return True

    def settle(self) -> str:
        """After the process has ended: takes the fault away, or adds the damage; says what."""
        self._undo.close()
        if self.kind.name == "corrupt":
            return _damage(self._start.workdir, self._random)
        if self.kind.name == "partial":
            return _leave_partial(self._start, self._random)
        return ""


def is_hit(kind: Kind, stage: str, status: int | None) -> bool:
    """Whether a fault that was inflicted in a stage hit, by the exit status of the start.

    What ends it hits nothing where the last stage was just done.
    """
    return status != 0 or 0 in kind.endings or stage != STAGES[-1]


def endings(kind: Kind, stage: str) -> tuple[int, ...]:
    """The exit statuses that are in order for a kind of fault in a stage.

    A signal ends a process by itself until the run heeds signals, and once it is done.
    """
    signals = {"term": signal.SIGTERM, "hup": signal.SIGHUP, "terminal": signal.SIGHUP}
    if stage in (STAGES[0], STAGES[-1]) and kind.name in signals:
        return (*kind.endings, -signals[kind.name])
    return kind.endings


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, megabytes: int):
    """Mounts a disk of few megabytes in a folder; gives whether that is permitted here."""
    folder.mkdir(parents=True, exist_ok=True)
    while folder.is_mount():  # by a torture that was killed itself
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    done = mount and not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield bool(done)
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _start_second(start: Start) -> str:
    """Starts the command again beside a run; what is wrong with how that ends."""
    second = start.again()
    deadline = time.monotonic() + SECOND_SECONDS
    while start.is_running and second.is_running and time.monotonic() < deadline:
        is_held = _holder(start.workdir) == second.process.pid
        # After the last stage the lock is free, though the process takes a moment to end.
        if is_held and not start.has_begun(STAGES[-1]) and start.is_running:
            second.process.kill()
        time.sleep(POLL_SECONDS)
    was_running = start.is_running
    status = second.wait(0 if was_running else SECOND_SECONDS)
    if was_running and status != MISTAKE:
        return f"a second run ended with {status}; expected to be refused"
    return ""


def _holder(workdir: pathlib.Path) -> int:
    """The process that says that it holds the lock of a work directory; 0 for none."""
    try:
        return json.loads((workdir / ".lock").read_text())["process"]
    except (OSError, ValueError, KeyError):  # being written
        return 0


def _set_mode(folder: pathlib.Path, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        folder.chmod(mode)


def _fill(workdir: pathlib.Path, free_kilobytes: int) -> pathlib.Path:
    """Fills the disk of a work directory but for a little."""
    path = workdir.parent / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):  # there is no more room
                while True:
                    file.write(bytes(size))
        file.truncate(max(0, file.tell() - 1024 * free_kilobytes))
    return path


def _virtual_bytes(pid: int) -> int:
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _workers(pid: int) -> list[int]:
    """Processes that a process started to decode images."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"--multiprocessing-fork" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def checkpoints(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Checkpoints of work under way, the newest last: folders of Orbax, or files."""
    found = []
    for path in workdir.rglob("[0-9]*"):
        folder = path.relative_to(workdir).parent.as_posix()
        is_whole = path.stem.isdecimal() and not is_half_written(path.name)
        if is_whole and is_under_way(folder) and not is_half_written(folder):
            found.append(path)
    return sorted(found, key=modified)


def _damage(workdir: pathlib.Path, random_: random.Random) -> str:
    """Damages the newest checkpoint; says how, or "" where there is none."""
    found = checkpoints(workdir)
    if not found:
        return ""
    newest = found[-1]
    files = [newest] if newest.is_file() else [p for p in newest.rglob("*") if p.is_file()]
    files = [path for path in files if path.stat().st_size]
    how = random_.choice(("cut", "flipped", "removed", "all cut"))
    for path in files if how == "all cut" else [max(files, key=lambda p: p.stat().st_size)]:
        content = bytearray(path.read_bytes())
        if how == "removed":
            path.unlink()
            continue
        if how == "flipped":
            for _ in range(20):
                content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
        else:
            del content[len(content) // 2 :]
        path.write_bytes(content)
    return (
        f"{newest.relative_to(workdir)}, largest file {how}"
        if how != "all cut"
        else (f"{newest.relative_to(workdir)}, all files cut")
    )


def _leave_partial(start: Start, random_: random.Random) -> str:
    """Leaves what a process leaves that dies while it writes: halves, under temporary names."""
    workdir, pid = start.workdir, start.process.pid
    export = workdir / "export"  # whose folders are renamed as a whole
    files = [
        path
        for path in workdir.rglob("*")
        if path.is_file() and not path.name.startswith(".") and export not in path.parents
    ]
    for path in random_.sample(files, min(3, len(files))):
        content = path.read_bytes()
        path.with_name(f".{path.name}.0.{pid}.partial").write_bytes(content[: len(content) // 2])
    for folder in [path for path in checkpoints(workdir) if path.is_dir()][-1:]:
        half = folder.with_name(f"{int(folder.name) + 1}.orbax-checkpoint-tmp")
        shutil.copytree(folder, half, ignore=lambda _, names: names[::2], dirs_exist_ok=True)
    if export.is_dir():
        (export / ".npz.partial").mkdir(exist_ok=True)
        (export / ".npz.partial" / "half").write_bytes(b"half")
    return ""
