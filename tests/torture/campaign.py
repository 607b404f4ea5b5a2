"""Runs that are disturbed again and again, brought to their end, and compared."""

import contextlib
import json
import pathlib
import random
import shutil
import time
from collections.abc import Sequence

from tests.torture import faults, snapshot
from tests.torture.starts import STAGES, START, Start
from tests.torture.tally import Hit, Tally

DISK_MEGABYTES = 16  # a run takes 2
LONGEST_SECONDS = 400  # a start that takes longer hangs; Orbax waits 300 where no thread can begin
TRIES = 3  # undisturbed starts until a run counts as one that cannot go on


class Campaign:
    """A torture.

    Args:
      folder: for everything; it keeps compiled programs from one torture to the next, and of a run
        that lost something all that there is.
      kinds: names of `faults.KINDS`.
      seed: of all choices; moments also depend on the machine.
      minutes: after which no more faults begin.
      most: faults after which no more begin; None: only time ends them.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        kinds: Sequence[str],
        seed: int,
        minutes: float,
        most: int | None = None,
    ):
        self._folder, self._random = folder, random.Random(seed)
        self._kinds, self._most = kinds, most
        self._began = time.monotonic()
        self._deadline = self._began + 60 * minutes
        self._deck: list[tuple[faults.Kind, str]] = []
        self._durations: dict[str, float] = {}
        self._expected: dict[str, str] = {}
        self._latest: Start | None = None
        self.tally = Tally()

    def run(self) -> Tally:
        """Tortures until the time is up."""
        disk = self._folder / "small_disk"
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_latest)
            mounted = "disk" in self._kinds
            mounted = mounted and stack.enter_context(faults.small_disk(disk, DISK_MEGABYTES))
            whys = {kind: faults.why_not(kind, mounted) for kind in self._kinds}
            self.tally.skipped = {kind: why for kind, why in whys.items() if why}
            self._kinds = [kind for kind in self._kinds if not whys[kind]]
            self._parent = disk if mounted else self._folder
            if self._undisturbed():
                while not self._is_over():
                    self._tortured()
        self.tally.seconds = time.monotonic() - self._began
        return self.tally

    def _end_latest(self) -> None:
        """Lets no process of the run outlive the torture, however that ends."""
        if self._latest is not None:
            self._latest.wait(0)

    def _is_over(self) -> bool:
        is_enough = self._most is not None and len(self.tally.hits) >= self._most
        return is_enough or time.monotonic() > self._deadline

    def _say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {line}", flush=True)

    def _start(self, workdir: pathlib.Path, kind: faults.Kind | None = None) -> Start:
        self.tally.starts += 1
        self._latest = Start(
            workdir,
            self._folder / "cache",
            self._folder / f"{workdir.name}.log",
            kind.output if kind else "file",
            kind.flags if kind else (),
            "readonly" in self._kinds,
        )
        return self._latest

    def _undisturbed(self) -> bool:
        """Two runs without faults; whether they end and are equal, as they must to compare with."""
        found = []
        for name in ("undisturbed", "undisturbed again"):
            workdir = self._folder / name.replace(" ", "_")
            shutil.rmtree(workdir, ignore_errors=True)
            start = self._start(workdir)
            status = start.wait(LONGEST_SECONDS)
            if status != 0:
                self._lose(workdir, f"{name}: exit status {status}, see {workdir}.log")
                return False
            found.append(snapshot.snapshot(workdir))
            self.tally.clean_seconds = time.monotonic() - start.began
            self._say(f"{name}: {self.tally.clean_seconds:.1f} s, {len(found[0])} results")
        records = workdir / "stages"
        taken = {
            name: json.loads((records / f"{name}.json").read_text())["seconds"]
            for name in STAGES[1:]
        }
        self._durations = {START: self.tally.clean_seconds - sum(taken.values()), **taken}
        self._expected = found[1]
        if lines := snapshot.differences(*found):
            self._lose(workdir, f"two undisturbed runs differ: {'; '.join(lines[:5])}")
            return False
        return True

    def _tortured(self) -> None:
        """One run, disturbed until its last stage is reached, then compared."""
        number = self.tally.runs + 1
        workdir = self._parent / f"run{number}"
        shutil.rmtree(workdir, ignore_errors=True)
        (self._folder / f"{workdir.name}.log").unlink(missing_ok=True)
        is_done, failures, position = False, 0, 0
        while not is_done:
            card = None if self._is_over() else self._draw(position)
            start = self._start(workdir, card[0] if card else None)
            if card is None:
                status = start.wait(LONGEST_SECONDS)
                is_done, failures = status == 0, failures + (status != 0)
                if failures >= TRIES or status is None:
                    self._lose(workdir, f"run {number}: cannot go on, exit status {status}")
                    break
            else:
                is_done = self._disturb(number, start, *card)
                position = max(position, STAGES.index(start.stage()))
        self.tally.runs += 1
        if is_done:
            self._compare(number, workdir)

    def _draw(self, position: int) -> tuple[faults.Kind, str] | None:
        """The next fault and the stage that it is for, which is not before `position`.

        Every pair of them comes up once before any comes up again. Half of the time it is one of
        the earliest stage that may come, so that a run has many faults, and some in each stage.
        """
        if not self._deck:
            kinds = [faults.KINDS[name] for name in self._kinds]
            self._deck = [
                (kind, stage)
                for kind in kinds
                for stage in kind.stages or STAGES
                for _ in range(kind.weight)
            ]
            self._random.shuffle(self._deck)
        open_ = [card for card in self._deck if STAGES.index(card[1]) >= max(position, 1)]
        open_ += [card for card in self._deck if card[1] == START]
        if not open_:
            return None
        card = self._random.choice(open_)
        if self._random.random() < 0.5:
            card = min(open_, key=lambda card: STAGES.index(card[1]) or len(STAGES))
        self._deck.remove(card)
        return card

    def _disturb(self, number: int, start: Start, kind: faults.Kind, stage: str) -> bool:
        """Lets a fault hit a start; whether the run is done all the same."""
        fault = faults.Fault(kind, start, self._random)
        moment = self._random.uniform(0, self._durations[stage])
        is_hit = (
            start.await_stage(stage, LONGEST_SECONDS)
            and (kind.name in ("worker", "corrupt") or start.sleep(moment))
            and fault.is_ready()
        )
        hit_stage, when, now = start.stage(), time.time(), time.monotonic()
        if is_hit:
            is_hit = False
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
                is_hit = fault.inflict()
        status = start.wait(LONGEST_SECONDS)
        is_hit = is_hit and faults.is_hit(kind, hit_stage, status)
        seconds = time.monotonic() - now
        unsaved = start.unsaved_seconds(when) if is_hit and status != 0 else float("nan")
        note = fault.settle() or fault.problem
        if kind.name == "corrupt" and not note:  # there was no checkpoint left to damage
            kind = faults.KINDS["kill"]
        if not is_hit:
            self._say(f"run {number}: ended with {status} before {kind.name} could hit {stage}")
            if status != 0:
                self._lose(start.workdir, f"run {number}: exit status {status} without a fault")
            return status == 0
        is_expected = status in faults.endings(kind, hit_stage) and not fault.problem
        self.tally.hits.append(Hit(kind.name, hit_stage, status, seconds, unsaved, is_expected))
        line = f"run {number}: {kind.name} in {hit_stage}: exit status {status}"
        line += f" after {seconds:.1f} s" + (f"; {note}" if note else "")
        self._say(line if is_expected else f"{line} (NOT AS EXPECTED)")
        if not is_expected:
            expected = f"expected {faults.endings(kind, hit_stage)}"
            self.tally.unexpected.append(f"{line}; {expected}; it said: {start.last_words()}")
        return status == 0

    def _compare(self, number: int, workdir: pathlib.Path) -> None:
        lines = snapshot.differences(self._expected, snapshot.snapshot(workdir))
        left = snapshot.left_behind(workdir)
        self.tally.left_behind += len(left)
        more = f", left over: {', '.join(left)}" if left else ""
        self._say(f"run {number}: done, {'DIFFERS' if lines else 'equal'}{more}")
        if lines:
            shown = "; ".join(lines[:5]) + (f"; {len(lines) - 5} more" if lines[5:] else "")
            self._lose(workdir, f"run {number}: {shown}")
        else:
            shutil.rmtree(workdir)

    def _lose(self, workdir: pathlib.Path, line: str) -> None:
        """Notes a loss, and keeps the work directory to look at."""
        kept = self._folder / f"lost_{len(self.tally.losses)}"
        shutil.rmtree(kept, ignore_errors=True)
        if workdir.is_dir():
            shutil.copytree(workdir, kept)
        self.tally.losses.append(f"{line} (kept in {kept})")
        self._say(f"LOST: {line}")
