"""Students that train in one program: noted, so that they stay together when a run goes on."""

import pathlib
import re
import shutil
from collections.abc import Collection, Sequence

from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.fingerprint import fingerprint

# The first student of a group and a hash of all, of checkpoints and of the note beside them.
_NAME = re.compile(r"\.(?P<first>.+)\.[0-9a-f]{12}(\.students)?")


def group_name(students: Sequence[str], identities: Sequence[str]) -> str:
    """What a group is called, by its students and the hashes of all that decides them."""
    return f".{students[0]}.{fingerprint({'students': list(identities)})[:12]}"


class StudentGroups:
    """Those of the students of a folder, who are called as their files there, without suffix.

    A group has a hidden folder of checkpoints; beside it, with .students, are their names as JSON,
    from its beginning on. What a student becomes depends, to rounding, on how many share its
    program. So a group goes on as it was, on however many hosts, and also where some of its
    students have their files already: they train along.

    Args:
      folder: of the students' files.
      workdir: reads and writes the notes.
    """

    def __init__(self, folder: pathlib.Path, workdir: WorkDir):
        self._folder, self._workdir = folder, workdir

    def begun(self, among: Collection[str]) -> dict[str, list[str]]:
        """The students of each group that was begun; all are `among` some, and in no two groups."""
        found, free = {}, set(among)
        for note in sorted(self._folder.glob(".*.students")):
            students = self._read(note) if _NAME.fullmatch(note.name) else []
            if students and free.issuperset(students):
                found[note.stem] = students
                free.difference_update(students)
        return found

    def begin(self, students: Sequence[str], identities: Sequence[str]) -> pathlib.Path:
        """Notes a group, if it is not noted; returns the folder of its checkpoints.

        Other groups that one of its students was the first of, as from other images, are removed.
        """
        name = group_name(students, identities)
        self.discard(students, but=name)
        self._workdir.write_json(self._folder / f"{name}.students", list(students))
        return self._folder / name

    def discard(self, firsts: Collection[str], but: str = "") -> None:
        """Removes checkpoints and notes of the groups that one of `firsts` is the first of."""
        for path in sorted(self._folder.glob(".*")):  # a note after its checkpoints
            match = _NAME.fullmatch(path.name)
            if not match or match["first"] not in firsts or path.name in (but, f"{but}.students"):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _read(self, note: pathlib.Path) -> list[str]:
        """The students of a note; none where it is damaged, which is said."""
        try:
            return self._workdir.read_json(note)
        except InputError as error:
            print(f"{error}; its students are dealt and grouped as if they had not begun")
            return []
