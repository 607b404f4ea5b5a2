"""Inputs that are wrong in the way of damaged and hostile files: valid ones, changed."""

import contextlib
import json
import pathlib
import resource
import signal
import sys

import pytest
from hypothesis import strategies as st

from delt_jax.errors import InputError

SECONDS = 60.0  # for one file
MEMORY = 4 << 30  # bytes, beyond what the process has
# Names that file systems, archives, pages and shells have stumbled over.
STRANGE_NAMES = (
    *("../../x", "/etc/x", "a/b", "..", ".", "", ".hidden", "con", "nul.png", "a\\b", "~root"),
    *("a\0b", "new\nline", "\r", "x" * 300, "ä" * 200, "\u202egnp.exe", "\ud800", "<script>", "%s"),
    *("'; rm -rf x", "- a: &b *b", "---", "|", "`id`", "$(id)", "{{7*7}}", "\x1b[31m", " "),
)
_INTERESTING = (
    b"\0",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"-1",
    b"9" * 30,
    b"../",
    b"\n",
)


@st.composite
def mutated(draw, valid: bytes):
    """A few changes to the bytes of a valid file."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 64))
        piece = draw(st.one_of(st.sampled_from(_INTERESTING), st.binary(max_size=16)))
        match draw(st.sampled_from(("write", "insert", "delete", "cut", "repeat"))):
            case "write":
                data[start : start + len(piece)] = piece
            case "insert":
                data[start:start] = piece
            case "delete":
                del data[start : start + length]
            case "cut":
                del data[start:]
            case "repeat":
                data[start:start] = data[start : start + length]
    return bytes(data)


def anything():
    """Any JSON, strange names among its texts, and numbers beyond all types."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from((-1, 0, 2**31, 2**63, 2**64, 10**30, 1e308, 1e-320)),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(STRANGE_NAMES),
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    )


@st.composite
def mutated_json(draw, valid):
    """A valid JSON value in which some entries are replaced, added or gone; as text."""
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        place = value
        while True:  # down to some entry
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, dict | list) or draw(st.integers(0, 3)) == 0:
                if draw(st.integers(0, 4)) == 0:
                    del place[key]
                else:
                    place[key] = draw(anything())
                break
            place = inner
    return json.dumps(value)


@contextlib.contextmanager
def only_clear_errors():
    """Lets an `InputError` of one line pass, and nothing else: no hang, no end of the memory."""
    try:
        with bounded():
            yield
    except InputError as error:
        text = str(error)
        assert text
        assert len(text.splitlines()) == 1, text
        assert len(text) < 3000
        text.encode()  # a log takes it


@contextlib.contextmanager
def bounded():
    """Fails what takes far more time or memory than the reading of a small file can."""
    if signal.getitimer(signal.ITIMER_REAL)[0]:  # within another
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"{SECONDS} s: it hangs"))
    if sys.platform == "linux":
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextlib.contextmanager
def nothing_appears(folder: pathlib.Path):
    """Watches a folder in which tests read: when they are done, it holds what it held."""
    before = set(folder.rglob("*"))
    yield
    assert set(folder.rglob("*")) == before
