"""What two runs of one config must have in common: everything but times."""

import hashlib
import json
import pathlib
from typing import Any

# Not results: what was asked for, logs and records of when what was done, the lock,
# scores in parts.
LEFT_OUT = ("config.json", "metrics.jsonl", "stages", "report.html", ".lock", "scores")
TIMES = ("seconds", "stages")  # what the names of fields begin with that hold times
UNDER_WAY = ("checkpoints",)  # folders of work that is not done; hidden ones, too


def snapshot(workdir: pathlib.Path) -> dict[str, str]:
    """A hash of each result of a finished run, by its path.

    JSON is compared by its values, without times; whatever else there is byte by byte.
    """
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.is_dir() or name.split("/")[0] in LEFT_OUT or is_under_way(name):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """A line for each result that is missing, is not the expected one, or should not be there."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    both = [name for name in expected if name in found]
    other = [f"{name} differs" for name in both if found[name] != expected[name]]
    more = [f"{name} is left over" for name in found if name not in expected]
    return missing + other + more


def is_under_way(name: str) -> bool:
    """Whether a path in a work directory is of work that was not done when it was written."""
    return any(part.startswith(".") or part in UNDER_WAY for part in name.split("/"))


def is_half_written(name: str) -> bool:
    """Whether a path is a temporary one, of something that is being written."""
    last = name.rpartition("/")[2]
    return (last.endswith(".partial") and last not in UNDER_WAY) or "orbax-checkpoint-tmp" in name


def left_behind(workdir: pathlib.Path) -> list[str]:
    """Files of unfinished work, for which a finished run has no use."""
    names = (p.relative_to(workdir).as_posix() for p in workdir.rglob("*") if not p.is_dir())
    return sorted(name for name in names if is_under_way(name) and name not in LEFT_OUT)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if not key.startswith(TIMES)}
        return {key: _without_times(part) for key, part in kept.items()}
    return [_without_times(part) for part in value] if isinstance(value, list) else value
