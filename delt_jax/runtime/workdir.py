"""The work directory: where everything of a run lies, and writes that are whole or not there."""

import csv
import io
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from delt_jax.errors import InputError
from delt_jax.runtime import faults, hosts, strict_json

PARTIAL = ".partial"  # ends the names of files and folders that are not whole yet
_OURS = re.compile(rf"\..+\.\d+\.\d+{re.escape(PARTIAL)}")  # host and process: `write_atomically`


def write_atomically(path: pathlib.Path, data: bytes) -> None:
    """Writes `data` under a temporary name beside `path`, syncs it, renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host = hosts.current().index  # process numbers repeat on the hosts that share a folder
    temporary = path.with_name(f".{path.name}.{host}.{os.getpid()}{PARTIAL}")
    try:
        with faults.named(path), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a path that a user gave, with `~` as the home folder.

    Shells do so at the beginning of a word alone: `--workdir=~/runs` arrives as it is.

    Raises:
      InputError: for `~name` where there is no such user.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"path {str(path)!r}: there is no such user; expected one's home"
        ) from None


class WorkDir:
    """Paths of one run (README, "What comes out", is the contract) and atomic writes into it."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = expanded(path)
        self.config_json = self.path / "config.json"
        host = hosts.current().index  # each host of a run has a file of its own
        self.metrics_jsonl = self.path / (f"metrics.host{host}.jsonl" if host else "metrics.jsonl")
        self.teacher = self.path / "teacher"
        self.ranking_csv = self.path / "ranking.csv"
        self.selection_csv = self.path / "selection.csv"
        self.unreadable_csv = self.path / "unreadable.csv"
        self.synthesis = self.path / "synthesis"
        self.schedule_json = self.synthesis / "schedule.json"
        self.distilled = self.path / "distilled"
        self.labels = self.path / "labels"
        self.evaluation = self.path / "evaluation"
        self.continual = self.path / "continual"
        self.fairness = self.path / "fairness"
        self.fairness_json = self.fairness / "fairness.json"
        self.export = self.path / "export"
        self.results_json = self.path / "results.json"
        self.report_html = self.path / "report.html"
        self.stages = self.path / "stages"

    def create(self) -> None:
        """Makes the folder; raises `InputError` where it cannot be made or written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(
                f"workdir {str(self.path)!r}: cannot write there ({error.strerror or error}); "
                "expected a folder that exists or can be made"
            ) from error

    def clear_partial(self) -> None:
        """Removes what writes left half done that a kill cut short; nothing else may write here."""
        for root, folders, files in os.walk(self.path):
            for name in files:
                if _OURS.fullmatch(name):
                    (pathlib.Path(root) / name).unlink(missing_ok=True)
            folders[:] = [name for name in folders if not name.startswith(".")]

    def write_bytes(self, path: pathlib.Path, data: bytes) -> None:
        """See `write_atomically`."""
        write_atomically(path, data)

    def write_text(self, path: pathlib.Path, text: str) -> None:
        """`write_bytes` of UTF-8 text."""
        self.write_bytes(path, text.encode())

    def write_csv(
        self, path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """`write_text` of a table, its columns named in the first line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        self.write_text(path, text.getvalue())

    def write_json(self, path: pathlib.Path, value: Any) -> None:
        """`write_text` of indented JSON."""
        self.write_text(path, strict_json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, path: pathlib.Path) -> Any:
        """Reads JSON; raises `InputError` naming the file where it is absent or broken."""
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{path}: not there; expected the result of an earlier stage"
            ) from None
        except (OSError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or "nested too deeply"
            raise InputError(f"{path}: cannot be read ({reason})") from error
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); delete it to remake it") from None
