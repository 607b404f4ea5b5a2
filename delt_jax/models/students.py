"""What the words of `evaluate.students` mean; without the architectures themselves."""

from collections.abc import Iterable


def student_arch(name: str, teacher: str) -> str:
    """The architecture that a word means: the teacher's for "teacher" and ""."""
    return teacher if name in ("", "teacher") else name


def student_archs(names: Iterable[str], teacher: str) -> tuple[str, ...]:
    """Those of several words, in their order, each once."""
    return tuple(dict.fromkeys(student_arch(name, teacher) for name in names))
