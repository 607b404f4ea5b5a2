"""Command line: `python -m delt_jax.sweep --sweep=configs/sweeps.py:methods --workdir=runs/sweep`.

`--config.a.b=value` is passed on to every point.
"""

import shlex
import sys
from collections.abc import Sequence

from absl import flags

from delt_jax.errors import InputError
from delt_jax.runtime import lock
from delt_jax.runtime.command_line import ConfigFlag, run_program
from delt_jax.runtime.workdir import WorkDir, expanded
from delt_jax.sweep.collection import collect
from delt_jax.sweep.planning import Step, load_sweep, plan
from delt_jax.sweep.running import run_points

_CONFIG = ConfigFlag()  # its options are passed on to the points
flags.declare_key_flag("config")
_SWEEP = flags.DEFINE_string("sweep", None, "FILE.py:NAME,argument=value,...")
_WORKDIR = flags.DEFINE_string("workdir", None, "Holds a work directory a point, and the tables.")
_POINT = flags.DEFINE_integer("point", None, "Run this point alone, counted from 1; no tables.")
_COLLECT = flags.DEFINE_bool("collect", False, "Run nothing; make the tables of what is done.")
_DRY_RUN = flags.DEFINE_bool("dry-run", False, "Print the commands of the points; do nothing.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Recompute what was made with another config.")
flags.mark_flags_as_required(["sweep", "workdir"])


def parse(argv: Sequence[str]) -> list[str]:
    """Reads the flags of the sweep; what each point says itself is refused."""
    rest = _CONFIG.parse(argv)
    if _CONFIG.file:
        raise InputError(f"--config={_CONFIG.file}: each point has its config; expected --sweep")
    if "method" in _CONFIG.options:
        raise InputError("--config.method: each point has its method; expected it in --sweep")
    return rest


def main(argv: list[str]) -> int:
    """Runs the points and collects them; 1 where one has failed."""
    if len(argv) > 1:
        raise InputError(f"arguments: got {argv[1]!r}, expected flags only (--sweep, --workdir)")
    sweep = load_sweep(str(_SWEEP.value))
    folder = expanded(str(_WORKDIR.value))
    passed_on = [f"--config.{path}={value}" for path, value in _CONFIG.options.items()]
    extra = [*passed_on, *(["--overwrite"] if _OVERWRITE.value else [])]
    steps = plan(sweep, folder, extra)
    chosen = _chosen(steps, _POINT.value)
    if _DRY_RUN.value:
        for step in chosen:
            print(shlex.join(["python", *step.command[1:]]))
        return 0
    WorkDir(folder).create()
    failures = {}
    if _POINT.value is not None:  # which may run beside others: its own folder is locked
        failures = run_points(chosen, total=len(steps))
    elif not _COLLECT.value:
        with lock.held(folder):
            failures = run_points(chosen, total=len(steps))
    if _POINT.value is None:
        collect(sweep, steps, folder)
        print((folder / "table.md").read_text(encoding="utf-8"))
        print(f"report   {folder / 'report.html'}")
    for name, last in failures.items():
        print(f"error: point {name} failed: {last}", file=sys.stderr)
    return 1 if failures else 0


def _chosen(steps: list[Step], number: int | None) -> list[Step]:
    if number is None:
        return steps
    if not 1 <= number <= len(steps):
        raise InputError(f"--point: got {number}, expected 1 to {len(steps)}")
    return [steps[number - 1]]


def run() -> None:
    """Entry point: a mistake of the user's ends in one line, not a traceback."""
    run_program(main, parse)


if __name__ == "__main__":
    run()
