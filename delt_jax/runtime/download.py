"""Files from the web into a cache: verified, and continued where an earlier try broke off.

Ours, because the libraries for it (pooch, torch.hub, TFDS) begin again from the first byte.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

from delt_jax.errors import InputError
from delt_jax.runtime import faults
from delt_jax.runtime.progress import Progress

TRIES = 4  # connections that break off in a row without a byte of progress, before giving up
TIMEOUT_SECONDS = 30.0  # without a byte
_CHUNK = 1 << 20
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[A-Za-z0-9.]+$")  # as torch.hub reads it
# Whole, for whoever can choose the file can find one whose sum begins with any eight digits.
_FRAGMENT = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)
_PARAMETERS = {"download", "revision"}  # of Hugging Face's addresses; any other may be a secret


def cache_folder() -> pathlib.Path:
    """Where downloads lie: $DELT_JAX_CACHE, else delt_jax in the user's cache folder."""
    if folder := os.environ.get("DELT_JAX_CACHE"):
        return pathlib.Path(folder).expanduser()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "delt_jax"


def check_address(url: str) -> None:
    """Checks all that an address says of itself, before it is written down or fetched.

    A user's name and password, or a parameter such as `?token=`, would stay in config.json and on
    the teacher's card, and every user of the machine sees a command line. Nobody knows all names of
    such parameters, so those that are none are listed.

    Raises:
      InputError: for an address that is none, holds a secret (which the error leaves out), or says
        no hash to verify the file by.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        names = {name for name, _ in urllib.parse.parse_qsl(parts.query, keep_blank_values=True)}
    except ValueError as error:
        raise InputError(f"no address of a file ({error}); expected https://...") from None
    found = ""
    if "@" in parts.netloc:
        found = "a user or password"
    elif names - _PARAMETERS or ";" in parts.path:
        found = f"parameters other than {' and '.join(sorted(_PARAMETERS))}"
    if found:
        raise InputError(
            f"{_place(url)}: holds {found}, which would be kept in config.json; "
            "expected an address that all may see, or the path of the file, downloaded by you "
            "(`curl --netrc -O` reads passwords from ~/.netrc)"
        )
    if parts.scheme not in ("http", "https"):
        raise InputError(f"{_place(url)}: expected an address that begins with https:// or http://")
    if expected_sha256(url) is None:
        raise InputError(
            f"{_place(url)}: says no hash to verify the file by; expected #sha256= after it and "
            "the 64 digits that its publisher says (or `sha256sum` of a copy that you trust)"
        )
    cached_path(url)


def _place(url: str) -> str:
    """An address without what may be a secret, for errors."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.partition(';')[0]}"


def expected_sha256(url: str) -> str | None:
    """The first hex digits of the file's SHA-256, as far as the URL tells.

    From a fragment `#sha256=DIGITS`, else from a name `...-DIGITS.ending` as the files of
    torchvision and timm have, whose digits are the first alone.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.fragment:
        match = _FRAGMENT.fullmatch(parts.fragment)
        if match is None:
            raise InputError(f"{_place(url)}: expected #sha256= and 64 hex digits after it")
        return match[1].lower()
    match = _HASH_IN_NAME.search(parts.path)
    return match[1] if match else None


def cached_path(url: str) -> pathlib.Path:
    """Where `download` puts a URL; files of one name from two places do not meet."""
    address = url.partition("#")[0]
    name = pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name
    if not name or name.startswith("."):
        raise InputError(f"{url}: names no file")
    place = hashlib.sha256(address.encode()).hexdigest()[:8]
    return cache_folder() / "downloads" / place / name


def download(url: str) -> pathlib.Path:
    """Returns the path of a URL's file, downloading it unless it is in the cache.

    Killed, or cut off by the network, it continues with the bytes that are there the next time.

    Args:
      url: of scheme http or https; `expected_sha256` says how it names its hash. Without one the
        file is only as trustworthy as the connection.

    Raises:
      InputError: where the address cannot be reached or has no such file, or the file's SHA-256 is
        another (the file is deleted then).
    """
    expected_sha256(url)  # an error in the address shows before anything is fetched
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: expected an address that begins with https:// or http://")
    path = cached_path(url)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not path.is_file():  # else another process was quicker
                part = path.with_name(path.name + ".part")
                _complete(url.partition("#")[0], part, path)
                _verify(part, url)
                part.replace(path)
                return path
    _verify(path, url)  # somebody may have put it there by hand
    return path


def _verify(path: pathlib.Path, url: str) -> None:
    """Deletes a file of another hash than its URL says, and raises."""
    expected, digest = expected_sha256(url), sha256(path)
    if expected is not None and not digest.startswith(expected):
        path.unlink()
        raise InputError(
            f"{url}: SHA-256 {digest[: max(16, len(expected))]}..., expected {expected}...; "
            f"{path} was deleted"
        )


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time download `path`; a dead one holds nothing."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _complete(url: str, part: pathlib.Path, path: pathlib.Path) -> None:
    """Appends to `part` until it is the whole file."""
    failures, before = 0, -1
    while True:
        have = part.stat().st_size if part.is_file() else 0
        failures = failures + 1 if have == before else 0
        before = have
        try:
            if _fetch(url, part, have):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # nothing lies beyond: another file, or none missing
                part.unlink()
                continue
            if error.code < 500:
                raise InputError(f"{url}: {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if faults.is_disk_full(error):
                raise
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            if not have and isinstance(error, urllib.error.URLError):
                raise InputError(
                    f"{url}: cannot be reached ({reason}); "
                    f"without a network, put the file at {path}"
                ) from error
        if failures >= TRIES:
            raise InputError(
                f"{url}: {reason} after {have:,} bytes; the same command continues from there"
            )
        time.sleep(min(2.0**failures / 2, 10))


def _fetch(url: str, part: pathlib.Path, have: int) -> bool:
    """One connection; True where the file is whole after it."""
    headers = {"User-Agent": "delt_jax", "Accept-Encoding": "identity"}
    validator = part.with_name(part.name + ".etag")  # of the file that `part` is a piece of
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator.is_file():
            headers["If-Range"] = validator.read_text()
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        if response.status != 206:  # the whole file: an empty part, a changed file, or no ranges
            have = 0
        etag = response.headers.get("ETag") or ""
        if etag and not etag.startswith("W/"):
            validator.write_text(etag)
        else:
            validator.unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as file,
            Progress(total or 0, f"downloading {part.stem}", unit="bytes", done=have) as bar,
        ):
            while chunk := response.read(_CHUNK):
                with faults.named(part):
                    file.write(chunk)
                bar.advance(len(chunk))
            with faults.named(part):
                file.flush()
                os.fsync(file.fileno())
            whole = total is None or file.tell() == total
    if whole:
        validator.unlink(missing_ok=True)
    return whole
