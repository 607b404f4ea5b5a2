"""Downloads from a server on this machine that can break off, lie and be away."""

import errno
import hashlib
import http.client
import http.server
import re
import threading

import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.runtime import download as downloads
from delt_jax.runtime.download import cached_path, check_address, download, expected_sha256

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under any name; what it does wrong is set from outside."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = CONTENT, '"one"'
        self.break_after: int | None = None  # bytes of a response
        self.breaks = 10**9  # how often
        self.knows_ranges = True
        self.status = 200
        self.ranges: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        same = self.headers.get("If-Range") in (None, server.etag)
        if asked and server.knows_ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(server.content):
                self.send_error(416)
                return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        if server.break_after is not None and server.breaks > 0:
            server.breaks -= 1
            body = body[: server.break_after]
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("url", "digits"),
    [
        ("https://a.org/models/resnet18-f37072fd.pth", "f37072fd"),
        ("https://a.org/shufflenetv2_x0.5-f707e7126e.pth", "f707e7126e"),
        ("https://a.org/model.safetensors", None),
        ("https://a.org/model-large.pth", None),
        ("https://a.org/model.pth#sha256=" + "0a" * 32, "0a" * 32),
        ("https://a.org/model-f37072fd.pth#sha256=" + "0A" * 32, "0a" * 32),
    ],
)
def test_reads_the_hash_from_the_url(url, digits):
    assert expected_sha256(url) == digits


def test_downloads_once(server):
    url = server.url(f"weights-{DIGEST[:8]}.pth")
    path = download(url)
    assert path.read_bytes() == CONTENT
    assert path.name == f"weights-{DIGEST[:8]}.pth"
    assert download(url) == path == cached_path(url)
    assert server.ranges == [None]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.name + ".lock"]


def test_goes_on_where_the_connection_broke(server):
    server.break_after = 130_000
    path = download(server.url(f"weights-{DIGEST[:8]}.pth"))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=130000-", "bytes=260000-"]


def test_goes_on_in_the_next_run(server):
    url = server.url(f"weights-{DIGEST[:8]}.pth")
    part = cached_path(url).with_name(f"weights-{DIGEST[:8]}.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:100_000])  # what a killed run leaves
    assert download(url).read_bytes() == CONTENT
    assert server.ranges == ["bytes=100000-"]
    assert not part.exists()


def test_begins_again_where_the_server_knows_no_ranges_or_the_file_changed(server):
    url = server.url("weights.safetensors")
    server.break_after, server.breaks = 1000, 1
    server.knows_ranges = False
    assert download(url).read_bytes() == CONTENT

    url = server.url("other.safetensors")
    server.knows_ranges, server.breaks = True, 10**9
    server.break_after = 0
    with pytest.raises(InputError, match="the same command continues"):
        download(url)
    part = cached_path(url).with_name("other.safetensors.part")
    part.write_bytes(b"old")
    part.with_name("other.safetensors.part.etag").write_text('"zero"')
    server.break_after = None
    assert download(url).read_bytes() == CONTENT


def test_begins_again_where_the_part_is_longer_than_the_file(server):
    url = server.url(f"weights-{DIGEST[:8]}.pth")
    part = cached_path(url).with_name(f"weights-{DIGEST[:8]}.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert download(url).read_bytes() == CONTENT


def test_a_server_that_keeps_breaking_off_is_given_up(server):
    server.break_after = 0
    with pytest.raises(InputError, match=r"broke off after 0 bytes; the same command continues"):
        download(server.url("weights.safetensors"))
    assert len(server.ranges) == downloads.TRIES + 1


def test_refuses_another_hash(server):
    url = server.url("weights-00000000.pth")
    message = (
        rf"weights-00000000.pth: SHA-256 {DIGEST[:16]}..., expected 00000000...; .* was deleted"
    )
    with pytest.raises(InputError, match=message):
        download(url)
    assert [file.suffix for file in cached_path(url).parent.iterdir()] == [".lock"]


def test_verifies_what_lies_in_the_cache(server):
    path = cached_path(server.url("weights-00000000.pth"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"put there by hand")
    with pytest.raises(InputError, match=r"SHA-256 .* was deleted"):
        download(server.url("weights-00000000.pth"))
    assert not path.exists()


def test_says_what_the_server_says(server):
    server.status = 404
    with pytest.raises(InputError, match=r"weights\.pth: 404 Not Found"):
        download(server.url("weights.pth"))


def test_offline_it_says_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path))
    url = "http://127.0.0.1:1/weights.pth"  # nobody listens on port 1
    with pytest.raises(InputError, match=r"cannot be reached .*; without a network, put") as caught:
        download(url)
    assert str(cached_path(url)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a.org/w.pth", "expected an address that begins with https"),
        ("https://a.org/", "names no file"),
        ("https://a.org/..", "names no file"),
        ("https://a.org/w.pth#sha256=xyz", "expected #sha256= and 64 hex digits"),
        ("https://a.org/w-f37072fd.pth#sha256=f37072fd", "expected #sha256= and 64 hex digits"),
    ],
)
def test_refuses_what_is_no_address_of_a_file(url, message):
    with pytest.raises(InputError, match=message):
        download(url)


HASH = "#sha256=" + "0a" * 32


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:hunter2@a.org/w.pth" + HASH, "https://a.org/w.pth: holds a user or password"),
        ("https://hunter2@a.org/w.pth" + HASH, "holds a user or password"),
        ("https://a.org/w.pth?token=hunter2" + HASH, "holds parameters other than download and"),
        ("https://a.org/w.pth?download=1&jwt=hunter2" + HASH, "which would be kept in config.json"),
        ("https://a.org/w.pth?pass=hunter2" + HASH, "https://a.org/w.pth: holds parameters"),
        ("https://a.org/w.pth?hunter2" + HASH, "https://a.org/w.pth: holds parameters"),
        ("https://a.org/w.pth;token=hunter2" + HASH, "https://a.org/w.pth: holds parameters"),
        ("https://a.org/w.pth#token=hunter2", "https://a.org/w.pth: expected #sha256= and 64 hex"),
        ("ftp://a.org/w.pth#token=hunter2", "ftp://a.org/w.pth: expected an address that begins"),
        ("https://a.org/w.pth", "says no hash to verify the file by; expected #sha256="),
        ("https://[::1/w.pth" + HASH, "no address of a file"),
        ("file:///etc/passwd" + HASH, "begins with https://"),
    ],
)
def test_an_address_says_a_hash_and_no_secret(url, message):
    with pytest.raises(InputError, match=message) as caught:
        check_address(url)
    assert "hunter2" not in str(caught.value)


def test_other_parameters_are_no_secret():
    check_address("https://a.org/resolve/w.pth?download=true&revision=keyed" + HASH)
    check_address("https://a.org/models/resnet18-f37072fd.pth")


def test_a_connection_that_fails_is_not_taken_for_the_disk(server, monkeypatch):
    def fail(*_):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(http.client.HTTPResponse, "read", fail)
    url = server.url("weights.pth")
    with pytest.raises(InputError) as caught:
        download(url)
    assert f"{url}: [Errno {errno.ECONNRESET}] Connection reset by peer after 0 bytes" in str(
        caught.value
    )
    assert ".part" not in str(caught.value)


def test_a_disk_that_fails_is_named(server, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        download(server.url("weights.pth"))
    assert caught.value.filename.endswith("weights.pth.part")
