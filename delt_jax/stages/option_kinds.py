"""Kinds of options: which values each takes, and how an error says it."""

import dataclasses
import difflib
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from delt_jax.data.specs import check_numbers
from delt_jax.errors import InputError, did_you_mean

_LISTED = 12  # words that an error lists; of more, only the nearest ones
_SHOWN = 80  # letters of a value in an error
_USER = re.compile(r"://[^/\s]*@")  # of an address: nobody else is to see who it is


class Kind(Protocol):
    """What an option may be."""

    def expected(self) -> str:
        """All of it in words, to come after "expected"."""
        ...

    def problem(self, value: Any) -> str:
        """What is expected instead of this value; "" where it is one that the option may have."""
        ...


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def expected(self) -> str:
        """See `Kind`."""
        return "True or False"

    def problem(self, value: Any) -> str:
        """See `Kind`."""
        return "" if isinstance(value, bool) else self.expected()


@dataclasses.dataclass(frozen=True)
class Number:
    """A number within limits, which are finite.

    Attributes:
      least: the smallest one.
      most: the largest one.
      whole: whether it must be an integer.
      below: `most` itself is none.
      also: one that means something else, and what.
    """

    least: float
    most: float
    whole: bool = False
    below: bool = False
    also: tuple[float, str] | None = None

    def expected(self) -> str:
        """See `Kind`."""
        kind = "a whole number" if self.whole else "a number"
        style = ",.10g" if self.whole else "g"
        least, most = (f"{limit:{style}}" for limit in (self.least, self.most))
        limits = f"from {least} {'and below' if self.below else 'to'} {most}"
        also = f", or {self.also[0]:g} for {self.also[1]}" if self.also else ""
        return f"{kind} {limits}{also}"

    def problem(self, value: Any) -> str:
        """See `Kind`."""
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return self.expected()  # and below for NaN, which compares with nothing
        if self.also and value == self.also[0]:
            return ""
        low_enough = value < self.most if self.below else value <= self.most
        return "" if self.least <= value and low_enough else self.expected()


@dataclasses.dataclass(frozen=True)
class Word:
    """One of some words."""

    words: Sequence[str]

    def expected(self) -> str:
        """See `Kind`."""
        return _one_of(self.words)

    def problem(self, value: Any) -> str:
        """See `Kind`."""
        if isinstance(value, str) and value in self.words:
            return ""
        many = len(self.words) > _LISTED and isinstance(value, str)
        if many and (near := difflib.get_close_matches(value.lower(), self.words)):
            return f"a name such as {', '.join(near)}"
        return self.expected() + did_you_mean(value, self.words)


@dataclasses.dataclass(frozen=True)
class Text:
    """A name, a path or an address, in one line of what UTF-8 can hold.

    Attributes:
      what: it is.
      required: whether it must not be empty.
      check: raises `InputError` for a text that is none; its message says all.
    """

    what: str
    required: bool = False
    check: Callable[[str], None] | None = None

    def expected(self) -> str:
        """See `Kind`."""
        return f"{self.what}, in one line" + ("" if self.required else ", or ''")

    def problem(self, value: Any) -> str:
        """See `Kind`."""
        if not isinstance(value, str) or (self.required and not value.strip()):
            return self.expected()
        if _USER.search(value):
            return f"{self.what} without a user or password in it, which config.json would keep"
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value):
            return self.expected()
        try:
            pathlib.Path(value).expanduser()
        except RuntimeError:
            return f"{self.what}; there is no such user"
        return ""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """One of some words, or mean and deviation as numbers."""

    words: Sequence[str]

    def expected(self) -> str:
        """See `Kind`."""
        return f"one of {', '.join(self.words)}, or numbers as mean/std, such as 0.5/0.25"

    def problem(self, value: Any) -> str:
        """See `Kind`."""
        if isinstance(value, str) and "/" in value:
            try:
                check_numbers(value)
            except InputError:
                return self.expected()
            return ""
        if isinstance(value, str) and value in self.words:
            return ""
        return self.expected() + did_you_mean(value, self.words)


@dataclasses.dataclass(frozen=True)
class Several:
    """A tuple of values of one kind, no two alike.

    Attributes:
      kind: of each.
      required: whether there must be one.
    """

    kind: Kind
    required: bool = True

    def expected(self) -> str:
        """See `Kind`."""
        least = " of at least one" if self.required else ""
        return f"a tuple{least}, each in it once and {self.kind.expected()}"

    def problem(self, value: Any) -> str:
        """See `Kind`."""
        if not isinstance(value, tuple | list):
            return self.expected()
        if self.required and not value:
            return self.expected()
        for number, entry in enumerate(value):
            if problem := self.kind.problem(entry):
                several = isinstance(entry, str) and "," in entry
                hint = "; several are written \"('a','b')\"" if several else ""
                return f"each to be {problem}, unlike {shown(entry)}{hint}"
            if entry in value[:number]:
                return f"each once, and {shown(entry)} is there twice"
        return ""


def shown(value: Any) -> str:
    """A value in an error: in one line, its beginning where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out more than 4,300 digits
        text = "a number of thousands of digits"
    text = _USER.sub("://***@", text)
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    # For a terminal or a log that takes UTF-8 alone.
    return text.encode("utf-8", "backslashreplace").decode()


def _one_of(words: Sequence[str]) -> str:
    """All words, or the first of many."""
    listed = ", ".join(word or "''" for word in words[:_LISTED])
    more = len(words) - _LISTED
    return f"one of {listed}" + (f" and {more} more" if more > 0 else "")
