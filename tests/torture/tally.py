"""What a torture has come to: counts by kind and stage, losses, times; and the table of it."""

import collections
import dataclasses
import math
from typing import Any

from tests.torture.faults import KINDS
from tests.torture.starts import STAGES


@dataclasses.dataclass(frozen=True)
class Hit:
    """A fault that hit.

    Attributes:
      kind: of the fault.
      stage: that was under way.
      status: exit status of the start, negative for a signal; None where it did not end.
      seconds: from the fault to the end of the process.
      unsaved: seconds of work before the fault that were not saved; NaN where nothing ended.
      is_expected: whether a start may end like that.
    """

    kind: str
    stage: str
    status: int | None
    seconds: float
    unsaved: float
    is_expected: bool


@dataclasses.dataclass
class Tally:
    """All that happened.

    Attributes:
      hits: the faults.
      losses: results that differ, runs that could not go on; a line each.
      unexpected: endings that are not in order, though nothing was lost; a line each.
      skipped: kinds of faults that cannot be provoked here, and why.
      runs: that were brought to their end, and compared.
      starts: of the command.
      left_behind: files of unfinished work in finished runs.
      clean_seconds: of an undisturbed run, programs compiled before.
      seconds: of all.
    """

    hits: list[Hit] = dataclasses.field(default_factory=list)
    losses: list[str] = dataclasses.field(default_factory=list)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    runs: int = 0
    starts: int = 0
    left_behind: int = 0
    clean_seconds: float = math.nan
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.losses and not self.unexpected

    def count(self, kind: str, stage: str) -> int:
        return sum(hit.kind == kind and hit.stage == stage for hit in self.hits)

    def slowest_term(self) -> float:
        """The longest time between a SIGTERM and the end of the process, in seconds."""
        return max((hit.seconds for hit in self.hits if hit.kind == "term"), default=math.nan)

    def unsaved(self) -> dict[str, list[float]]:
        """Seconds of work that each SIGKILL cost, by stage."""
        found = collections.defaultdict(list)
        for hit in self.hits:
            if KINDS[hit.kind].endings == KINDS["kill"].endings and not math.isnan(hit.unsaved):
                found[hit.stage].append(hit.unsaved)
        return {stage: found[stage] for stage in STAGES if stage in found}

    def as_json(self) -> dict[str, Any]:
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "hits"},
            "kills": sum(hit.kind in ("kill", "term") for hit in self.hits),
            "slowest_term_seconds": self.slowest_term(),
            "hits": [dataclasses.asdict(hit) for hit in self.hits],
        }

    def table(self) -> str:
        """For people."""
        width = max(len(kind.what) for kind in KINDS.values())
        columns = [f"{stage:>11}" for stage in (*STAGES, "all")]
        lines = [f"{'':{width}}{''.join(columns)}"]
        totals = collections.Counter()
        for kind in KINDS.values():
            counts = [self.count(kind.name, stage) for stage in STAGES]
            totals.update(dict(zip(STAGES, counts)))
            if sum(counts):
                numbers = "".join(f"{number or '':>11}" for number in (*counts, sum(counts)))
                lines.append(f"{kind.what:{width}}{numbers}")
        counts = [totals[stage] for stage in STAGES]
        numbers = "".join(f"{number or '':>11}" for number in (*counts, sum(counts)))
        lines.append(f"{'all':{width}}{numbers}")
        unsaved = [("mean", lambda values: sum(values) / len(values)), ("most", max)]
        for name, of in unsaved:
            row = {stage: f"{of(values):.1f} s" for stage, values in self.unsaved().items()}
            cells = "".join(f"{row.get(stage, ''):>11}" for stage in STAGES)
            lines.append(f"{f'work that a SIGKILL cost, {name}':{width}}{cells}")
        signals = sum(hit.kind in ("kill", "term") for hit in self.hits)
        lines += [
            "",
            f"{len(self.hits)} faults, {signals} of them SIGKILL or SIGTERM; {self.starts} starts "
            f"for {self.runs} runs, in {self.seconds / 60:.1f} minutes",
            f"an undisturbed run takes {self.clean_seconds:.1f} s, its programs compiled before",
            f"longest time from SIGTERM to the end of the process: {self.slowest_term():.1f} s",
            f"files of unfinished work left in finished runs: {self.left_behind}",
            *(f"not provoked here: {KINDS[k].what}: {why}" for k, why in self.skipped.items()),
            f"ended otherwise than they should: {len(self.unexpected)}",
            *(f"  {line}" for line in self.unexpected),
            f"losses: {len(self.losses)}",
            *(f"  {line}" for line in self.losses),
        ]
        return "\n".join(line.rstrip() for line in lines)
