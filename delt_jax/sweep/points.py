"""What a sweep is: its points, the paper's numbers for them, and the orderings it should show."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from delt_jax.errors import InputError

MEASURES = ("top1", "cosine")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published top-1 in percent, and the table or figure that it stands in."""

    top1: float
    source: str


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      name: names its folder, and its row.
      config: what follows `--config=`, arguments included.
      overrides: options to set, by their dotted path.
      paper: student -> the paper's number; "teacher" is the student of the teacher's architecture.
    """

    name: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, Paper] = dataclasses.field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """Its part of the command line of `delt_jax.main`."""
        return [
            f"--config={self.config}",
            *(f"--config.{path}={value}" for path, value in self.overrides.items()),
        ]


@dataclasses.dataclass(frozen=True)
class Claim:
    """An ordering of two points to be tested.

    Attributes:
      better: the point that is said to be ahead: higher in top-1, lower in cosine.
      worse: the point that it is compared with.
      measure: one of `MEASURES`.
      source: who says so, with the numbers where there are any.
      student: whose top-1.
    """

    better: str
    worse: str
    measure: str
    source: str
    student: str = "teacher"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Points in the order they run, and the orderings among them.

    Raises:
      InputError: for a name that is no folder's or that two points share, and for a claim about a
        point that there is not.
    """

    name: str
    title: str
    points: tuple[Point, ...]
    claims: tuple[Claim, ...] = ()

    def __post_init__(self):
        names = [point.name for point in self.points]
        if not names:
            raise InputError(f"sweep {self.name}: no points; expected at least one")
        for name in names:
            if not _NAME.fullmatch(name):
                raise InputError(
                    f"sweep {self.name}: point {name!r}, expected a name of letters, digits, . _ -"
                )
            if names.count(name) > 1:
                raise InputError(f"sweep {self.name}: two points {name!r}; expected one")
        for claim in self.claims:
            for name in (claim.better, claim.worse):
                if name not in names:
                    raise InputError(
                        f"sweep {self.name}: a claim about {name!r}, expected one of "
                        f"{', '.join(names)}"
                    )
            if claim.measure not in MEASURES:
                raise InputError(
                    f"sweep {self.name}: claim about {claim.measure!r}, expected top1 or cosine"
                )
