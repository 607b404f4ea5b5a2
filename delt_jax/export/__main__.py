"""Command line: `python -m delt_jax.export SRC DST --format=tensors,webdataset`.

SRC is a work directory or a distilled folder; every format gets a folder of its name in DST.
`python -m delt_jax.export --verify DIR` checks what was written, one export or a folder of some.
"""

import pathlib
from collections.abc import Callable

from absl import flags

from delt_jax.errors import InputError
from delt_jax.export import formats, manifest
from delt_jax.export.export_folder import SUMS, problems
from delt_jax.export.manifest import EXPORT, FILE_NAME, read_manifest
from delt_jax.runtime.command_line import parse_flags, run_program
from delt_jax.runtime.workdir import expanded

_FORMAT = flags.DEFINE_list("format", None, f"Some of {', '.join(formats.FORMATS)}.")
_VERIFY = flags.DEFINE_string("verify", None, "Check this folder; write nothing.")


def _define(option: formats.Option) -> flags.FlagHolder:
    define: Callable = {str: flags.DEFINE_string, int: flags.DEFINE_integer}[type(option.default)]
    return define(option.name, option.default, f"{option.meaning[0].upper()}{option.meaning[1:]}.")


_OPTIONS = {option.name: _define(option) for option in formats.OPTIONS}


def main(argv: list[str]) -> int:
    """Exports, or verifies; 1 where something is wrong with what is verified."""
    if _VERIFY.value is not None:
        if len(argv) > 1 or _FORMAT.value:
            raise InputError("--verify: got more to do, expected it alone")
        return _verify(expanded(_VERIFY.value))
    if len(argv) != 3 or not _FORMAT.value:
        raise InputError(
            f"arguments: got {' '.join(argv[1:]) or 'none'}, expected SRC DST "
            "--format=NAME[,NAME...], or --verify=DIR"
        )
    options = {name: flag.value for name, flag in _OPTIONS.items()}
    written = formats.export(argv[1], argv[2], _FORMAT.value, options)
    for name, folder in written.items():
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"{name}  {folder}  {len(files)} files, {size / 1e6:.2f} MB")
        print("  load it, from within that folder (its README.md says more):\n")
        for line in formats.FORMATS[name].loading.strip("\n").splitlines():
            print(f"    {line}")
        print()
    return 0


def _verify(folder: pathlib.Path) -> int:
    """Prints what is wrong by file, or that nothing is."""
    if (folder / SUMS).exists() or (folder / FILE_NAME).exists():
        folders = [folder]
    else:
        found = sorted(path.parent for path in folder.glob(f"*/{SUMS}"))
        folders = [path for path in found if not path.name.startswith(".")]
    if not folders:
        raise InputError(f"{folder}: no {SUMS} in it; expected an export, or a folder of some")
    wrong = False
    for one in folders:
        lines = _problems(one)
        wrong = wrong or bool(lines)
        print("\n".join(lines or [f"{one}: all as it was written"]))
    return int(wrong)


def _problems(folder: pathlib.Path) -> list[str]:
    """A line for each file that is wrong, of an export or of a distilled set itself."""
    if not (folder / SUMS).exists():
        try:
            found = read_manifest(folder)
        except InputError as error:
            return [str(error)]
        if EXPORT not in found.header:
            return list(manifest.problems(folder, found))
    return problems(folder)


def run() -> None:
    """Entry point: a mistake of the user's ends in one line, not a traceback."""
    run_program(main, parse_flags)


if __name__ == "__main__":
    run()
