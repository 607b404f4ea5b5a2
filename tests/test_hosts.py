"""Hosts of one run: two real processes make what one makes, and losing one loses nothing."""

import json
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import run_on_hosts
from tiny_run import save_teacher

from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime import hosts, lock
from delt_jax.runtime.hosts import Hosts
from delt_jax.runtime.workdir import WorkDir


@pytest.fixture
def notes(monkeypatch):
    """The hosts' notes in a dict, and no waiting between looks at them."""
    found: dict[str, str] = {}

    class Notes:
        def key_value_set(self, key, value, allow_overwrite):
            assert allow_overwrite
            found[key] = value

        def key_value_try_get(self, key):
            if key not in found:
                raise hosts.jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
            return found[key]

    monkeypatch.setattr(hosts, "_notes", Notes)
    monkeypatch.setattr(hosts, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(hosts, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(hosts.jax.distributed, "shutdown", lambda: None)
    return found


@pytest.mark.parametrize(("count", "items"), [(1, 5), (2, 5), (3, 2), (4, 8)])
def test_shares_partition_the_work_and_are_even(notes, count, items):
    crew = [Hosts(index, count) for index in range(count)]
    shares = [host.dealt(range(items)) for host in crew]
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for host in reversed(crew):
        host.leave()


def test_what_the_first_host_thinks_holds_for_all_again_and_again(notes):
    first, second = Hosts(0, 2), Hosts(1, 2)
    for value in ({"left": [1, 2]}, None):
        assert first.agree("plan", value) == value
        assert second.agree("plan", "something else") == value
    second.leave(), first.leave()


def test_a_host_that_gives_no_sign_of_life_ends_the_waiting_of_the_others(notes):
    first = Hosts(0, 2, timeout=0.1)
    with pytest.raises(Interrupted, match=r"host 1 of 2 is lost \(no sign of life for 0 s\); this"):
        first.wait("done")
    assert first.is_broken
    first.leave()


@pytest.mark.parametrize(("is_mistake", "kind"), [(True, InputError), (False, Interrupted)])
def test_the_others_learn_why_a_host_has_stopped_and_end_as_it_does(notes, is_mistake, kind):
    first, second = Hosts(0, 2), Hosts(1, 2)
    second.leave("class 'ant' has 3 images, expected at least 10", is_mistake)
    with pytest.raises(kind, match="host 1 of 2 stopped: class 'ant' has 3 images"):
        first.wait("done")
    assert first.is_broken
    first.leave()


def test_the_first_host_keeps_the_notes_until_the_others_have_left(notes, monkeypatch):
    monkeypatch.setattr(hosts.jax.distributed, "shutdown", lambda: left.append(set(notes)))
    left = []
    first, second = Hosts(0, 2), Hosts(1, 2)
    leaving = threading.Thread(target=first.leave, args=["SIGTERM"])
    leaving.start()
    while not second.is_broken:  # it saves
        assert leaving.is_alive()
    leaving.join(20 * hosts.BEAT_SECONDS)
    assert leaving.is_alive() and not left
    second.leave("SIGTERM")
    leaving.join()
    assert all("delt_jax/left/1" in keys for keys in left) and len(left) == 2


def test_a_host_that_has_left_looks_at_the_notes_no_more(notes, monkeypatch):
    get = Hosts._get
    monkeypatch.setattr(hosts, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(Hosts, "_get", lambda self, key: time.sleep(0.05) or get(self, key))
    host = Hosts(1, 2)
    time.sleep(0.12)  # in the middle of a look
    host.leave()
    assert not host._watcher.is_alive()


def test_a_host_alone_waits_for_nobody():
    alone = Hosts()
    alone.wait("done")
    alone.check()
    alone.leave("an error")
    assert alone.agree("plan", 3) == 3
    assert list(alone.dealt([1, 2])) == [1, 2]


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:8476", "h:1,2/2", "h:x,0/2", "Auto"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(
        InputError, match=f"--hosts: got '{address}', expected auto or ADDRESS:PORT"
    ):
        hosts.join(address)


def losses(workdir):
    """Of every student by its file, epoch by epoch."""
    paths = sorted((workdir / "evaluation").glob("*-conv3-*.json"))
    return {path.name: json.loads(path.read_text())["loss"] for path in paths}


def results(workdir):
    """What a run made, without times, and without students."""
    kept = {".lock", "metrics.jsonl", "metrics.host1.jsonl", "report.html", "results.json"}
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = str(path.relative_to(workdir))
        if path.is_dir() or path.name in kept or name.startswith(("stages", "teacher", "eval")):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            value = json.loads(content)
            for times in ("seconds", "seconds_by_round", "seconds_compile", "device", "host"):
                value.pop(times, None)
            value.pop("seconds_per_iteration_by_round", None)
            content = json.dumps(value).encode()
        found[name] = content
    return found


def begin(folder, name):
    """A work directory with a teacher."""
    workdir = WorkDir(folder / name)
    save_teacher(workdir)
    workdir.write_json(workdir.stages / "squeeze.json", {"inputs": {}, "seconds": 1.0})
    return workdir.path


@pytest.mark.slow
def test_a_mistake_that_one_host_sees_is_one_of_all(tmp_path):
    with lock.held(tmp_path):
        codes, outputs = run_on_hosts.finish(run_on_hosts.start(tmp_path, tmp_path, 2))
    assert codes == [2, 2], outputs
    mistake = f"workdir '{tmp_path}': process {os.getpid()} of host"
    assert f"error: {mistake}" in outputs[0]
    assert f"error: host 0 of 2 stopped: {mistake}" in outputs[1]


@pytest.mark.slow
def test_two_processes_make_what_one_makes_even_if_they_are_killed_or_asked_to_end(tmp_path):
    stages = "--stages=select,synthesize,relabel,evaluate"
    begin(tmp_path, "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    codes, outputs = run_on_hosts.finish(run_on_hosts.start(tmp_path, tmp_path / "one", 0, stages))
    assert codes == [0], outputs

    started = run_on_hosts.start(tmp_path, tmp_path / "two", 2, stages)
    checkpoints = tmp_path / "two" / "synthesis" / "checkpoints"
    deadline = time.monotonic() + 200
    while not list(checkpoints.glob("00002-*/*/*.safetensors")):  # the second host's class batch
        assert time.monotonic() < deadline and started[1].poll() is None
        time.sleep(0.02)
    started[1].kill()
    codes, outputs = run_on_hosts.finish(started)
    assert codes[0] == 75, outputs
    assert "interrupted: host 1 of 2 is lost" in outputs[0]
    assert not (tmp_path / "two" / "distilled" / "manifest.json").exists()

    kept = set(checkpoints.glob("00002-*/*/*.safetensors"))
    started = run_on_hosts.start(tmp_path, tmp_path / "two", 2, stages)
    while set(checkpoints.glob("00002-*/*/*.safetensors")) == kept:
        assert time.monotonic() < deadline and started[1].poll() is None
        time.sleep(0.02)
    for process in started:
        process.send_signal(signal.SIGTERM)
    codes, outputs = run_on_hosts.finish(started)
    assert codes == [75, 75], outputs
    for output in outputs:
        assert "interrupted: SIGTERM; what is done is kept" in output

    codes, outputs = run_on_hosts.finish(run_on_hosts.start(tmp_path, tmp_path / "two", 2, stages))
    assert codes == [0, 0], outputs
    assert "going on from iteration" in outputs[0] + outputs[1]
    assert results(tmp_path / "two") == results(tmp_path / "one")
    # Students are trained on four devices, which several processes add up in another order; and
    # these losses, of 1e-5, are small differences of logarithms.
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert len(expected) == 4 and list(found) == list(expected)
    for name, curve in expected.items():
        np.testing.assert_allclose(found[name], curve, rtol=0.05, err_msg=name)
    rows = (tmp_path / "two" / "metrics.host1.jsonl").read_text()
    assert '"stage": "evaluate"' in rows, "the second host trained students, too"


def test_every_host_learns_what_the_others_give(notes):
    first, second = Hosts(0, 2), Hosts(1, 2)
    given = threading.Thread(target=lambda: second.gather("students", {"b": "2"}))
    given.start()
    assert first.gather("students", {"a": "1"}) == [{"a": "1"}, {"b": "2"}]
    given.join()
    assert Hosts().gather("students", {"a": "1"}) == [{"a": "1"}]
    second.leave(), first.leave()
