"""The command line that the benchmarks share: what is compared with, and where results go."""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from delt_jax.errors import InputError

Result = dict[str, Any]


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every comparison with the authors' code has."""
    made = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=description)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    flag = made.add_argument
    flag("--dtype", choices=("float32", "bfloat16"), help="of our activations; theirs: float32")
    flag("--reference", type=pathlib.Path, help="a clone of VILA-Lab/DELT to time beside")
    flag("--threads", type=int, default=os.cpu_count(), help="torch's; JAX takes all cores")
    output_flags(made)
    flag("--plot", type=pathlib.Path, help="file for a figure (.svg, .png); needs matplotlib")
    return made


def output_flags(made: argparse.ArgumentParser) -> None:
    """Adds where results go."""
    made.add_argument("--json", type=pathlib.Path, help="file for what was measured")
    made.add_argument(
        "--table", type=pathlib.Path, help="file for the tables, which are printed too"
    )


def write_json(result: Result, args: argparse.Namespace) -> None:
    """Writes what was measured, where it was asked for."""
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def run(
    parse: Callable[[], argparse.Namespace],
    measure: Callable[[argparse.Namespace], Result],
    table: Callable[[Result], str],
    plot: Callable[[Result, pathlib.Path], None] | None = None,
) -> None:
    """Measures, prints the table, and writes the files that were asked for."""
    try:
        args = parse()
        result = measure(args)
        write_json(result, args)
        text = table(result)
        print(text)
        if args.table:
            args.table.write_text(text + "\n")
        if plot and args.plot:
            plot(result, args.plot)
    except InputError as error:
        sys.exit(f"error: {error}")
