"""The synthesize stage: what it writes, that it keeps its promises, and that kills cost nothing."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from tiny_run import CLASSES, make_config, save_teacher, train_source

from delt_jax.core import rounds
from delt_jax.data.selection import Selection, write_selection
from delt_jax.errors import InputError
from delt_jax.export.image_folder import read_distilled
from delt_jax.models.network import load_network, save_network
from delt_jax.runtime import mesh
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.metrics import read_metrics
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import packing_width, synthesize

ROOT = pathlib.Path(__file__).parents[2]
CHOSEN = np.array([[0, 3], [4, 1], [2, 8]])


def prepare(folder, name="run"):
    """A config of three rounds and two class batches, and a work directory up to the selection."""
    config, workdir = make_config(folder), WorkDir(folder / name)
    options = config.synthesis
    options.iterations, options.round_iterations, options.class_batch = 6, 2, 4
    options.log_every = 1
    config.distilled.format, config.distilled.rounding = "png", "nearest"
    config.method, config.method_changes = "early_only", ("synthesis.early_late=True",)
    save_teacher(workdir)
    write_selection(workdir, train_source(config), Selection(CHOSEN, np.full((3, 2), 0.5)))
    for earlier in ("squeeze", "select"):  # as the pipeline notes that they are done
        workdir.write_json(workdir.stages / f"{earlier}.json", {"inputs": {}, "seconds": 1.0})
    return config, workdir


def images_of(workdir):
    return read_distilled(workdir.distilled)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config, workdir = prepare(tmp_path_factory.mktemp("finished"))
    return config, workdir, synthesize.run(config, workdir)


def test_does_the_image_iterations_that_the_schedule_promises(finished):
    _, workdir, result = finished
    # IPC 2, 3 rounds of 2: the first image of a class has 3 rounds, the second 2. The second class
    # batch holds class 2 alone.
    assert result.promised == 3 * (6 + 4)
    assert result.image_iterations == result.promised
    assert result.constant == 3 * 2 * 6
    schedule = workdir.read_json(workdir.schedule_json)
    assert schedule["image_iterations_done"] == result.promised
    assert schedule["join_rounds"] == [0, 1]
    assert schedule["class_batches"] == 2
    assert not (workdir.synthesis / "checkpoints").exists()


def test_the_manifest_says_where_each_image_came_from(finished):
    config, workdir, _ = finished
    images, labels, records = read_distilled(workdir.distilled)
    assert images.shape == (6, 8, 8, 3)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [record.join_round for record in records] == [0, 1] * 3
    assert [record.iterations for record in records] == [6, 4] * 3
    assert [record.class_name for record in records] == list(np.repeat(CLASSES, 2))
    names = train_source(config).names
    assert [record.source for record in records] == [names[index] for index in CHOSEN.ravel()]
    manifest = json.loads((workdir.distilled / "manifest.json").read_text())
    assert manifest["teacher"]["arch"] == "conv3"
    assert (manifest["method"], manifest["method_changes"]) == (
        "early_only",
        ["synthesis.early_late=True"],
    )


def test_images_have_moved_from_the_real_ones(finished):
    config, workdir, _ = finished
    source = train_source(config)
    for image, index in zip(images_of(workdir), CHOSEN.ravel(), strict=True):
        assert (image != source[index]).any()


def test_losses_are_logged_for_every_class_batch(finished):
    rows = [r for r in read_metrics(finished[1].metrics_jsonl) if r["stage"] == "synthesize"]
    assert {row["class_batch"] for row in rows} == {0, 1}
    assert max(row["iteration"] for row in rows) == 6
    assert all(np.isfinite(row["loss"]) for row in rows)


@pytest.mark.parametrize(
    "devices", [pytest.param(4, marks=pytest.mark.four_devices), pytest.param(1, id="one device")]
)
def test_the_arrangement_does_not_change_the_images(finished, tmp_path, devices):
    assert len(mesh.local_devices()) == devices
    config, workdir = prepare(tmp_path)
    config.synthesis.class_batches_per_device = 2
    config.synthesis.sliced = False
    config.synthesis.steps_per_call = 3
    synthesize.run(config, workdir)
    difference = images_of(workdir).astype(int) - images_of(finished[1])
    assert np.abs(difference).max() <= 1  # float32 rounding before rounding to 8 bits


def test_noise_across_classes_owes_nothing_to_the_selection(tmp_path):
    made = []
    for name, selection in (("one", CHOSEN), ("other", CHOSEN[:, ::-1])):
        config, workdir = prepare(tmp_path, name)
        config.synthesis.early_late = False
        config.synthesis.initial, config.synthesis.layout = "noise", "across"
        write_selection(workdir, train_source(config), Selection(selection, np.full((3, 2), 0.5)))
        result = synthesize.run(config, workdir)
        assert result.image_iterations == result.constant == 3 * 2 * 6
        made.append(images_of(workdir))
    np.testing.assert_array_equal(*made)
    # What is left of noise of mean 0 and deviation 1, normalised: .25 about .5, clipped.
    assert 100 < made[0].mean() < 155 and made[0].std() > 40
    assert not (made[0][0] == made[0][1]).all()
    records = read_distilled(workdir.distilled)[2]
    assert {record.source for record in records} == {""}
    assert [record.slot for record in records] == [0, 1] * 3
    schedule = workdir.read_json(workdir.schedule_json)
    assert (schedule["class_batches"], schedule["join_rounds"]) == (2, [0, 0])


def test_noise_does_not_depend_on_the_layout(tmp_path):
    made = {}
    for layout in ("class", "across"):
        config, workdir = prepare(tmp_path, layout)
        config.synthesis.initial, config.synthesis.layout = "noise", layout
        synthesis = synthesize.Synthesis.open(config, workdir)
        made[layout] = {
            slot: image
            for batch in synthesis.plan.batches
            for slot, image in zip(batch.slots, synthesis._noise(batch), strict=True)
        }
    for slot in range(6):
        np.testing.assert_array_equal(made["class"][slot], made["across"][slot])


def test_a_run_that_stopped_goes_on_and_gives_the_same_bits(finished, tmp_path, monkeypatch):
    config, workdir = prepare(tmp_path)
    config.checkpoint_minutes = 0.0
    check, seen = synthesize.Synthesis._check, []

    def stop_in_the_middle(self, pack, chunks):
        seen.append(chunks[-1].next)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return check(self, pack, chunks)

    monkeypatch.setattr(synthesize.Synthesis, "_check", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        synthesize.run(config, workdir)
    monkeypatch.setattr(synthesize.Synthesis, "_check", check)
    result = synthesize.run(config, workdir)
    assert result.image_iterations == result.promised
    np.testing.assert_array_equal(images_of(workdir), images_of(finished[1]))


def test_finished_class_batches_are_kept(finished, tmp_path):
    config, workdir = prepare(tmp_path)
    synthesize.run(config, workdir)
    entry = workdir.synthesis / "batches" / "00000.json"
    stamp = entry.stat().st_mtime_ns
    (workdir.synthesis / "batches" / "00001.json").unlink()
    synthesize.run(config, workdir)
    assert entry.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(images_of(workdir), images_of(finished[1]))


@pytest.mark.slow
def test_killed_at_any_instant_the_same_command_finishes_with_the_same_bits(tmp_path):
    config, workdir = prepare(tmp_path)
    config.synthesis.iterations, config.synthesis.round_iterations = 1500, 500
    config.synthesis.log_every, config.checkpoint_minutes = 5, 0.002
    config_file = tmp_path / "config.py"
    config_file.write_text(
        "import json, pathlib\nfrom ml_collections import ConfigDict\n"
        "from configs import base\n\ndef get_config():\n"
        "    c = base.get_base()\n"
        f"    values = json.loads(pathlib.Path({str(tmp_path / 'values.json')!r}).read_text())\n"
        "    with c.ignore_type():\n        c.update(values)\n    return c\n"
    )
    (tmp_path / "values.json").write_text(config.to_json())
    command = [sys.executable, "-m", "delt_jax.main", f"--config={config_file}"]
    command += [f"--workdir={workdir.path}", "--stages=synthesize"]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    for _ in range(2):  # kill -9 in the middle of the first class batch, then a little later
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        checkpoints = workdir.synthesis / "checkpoints"
        before = newest(checkpoints)
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if newest(checkpoints) > before:
                break
            time.sleep(0.05)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=ROOT, env=environment, check=True)

    whole = prepare(tmp_path, "uninterrupted")[1]
    subprocess.run(
        [part.replace(str(workdir.path), str(whole.path)) for part in command],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    np.testing.assert_array_equal(images_of(workdir), images_of(whole))
    schedule = workdir.read_json(workdir.schedule_json)
    assert schedule["image_iterations_done"] == schedule["image_iterations"]


def newest(checkpoints):
    """The latest iteration that is in a checkpoint; -1 for none."""
    steps = [int(path.name) for path in checkpoints.glob("*/*") if path.name.isdigit()]
    return max(steps, default=-1)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_place(tmp_path):
    config, workdir = prepare(tmp_path)
    network = load_network(workdir.teacher)
    broken = jax.tree.map(lambda leaf: leaf * np.float32(1e20), network.variables)
    save_network(dataclasses.replace(network, variables=broken), workdir.teacher)
    with pytest.raises(InputError, match="loss is nan in class batch 0, round 0, iteration 0"):
        synthesize.run(config, workdir)


def test_a_selection_of_another_ipc_is_refused(tmp_path):
    config, workdir = prepare(tmp_path)
    config.ipc = 3
    with pytest.raises(InputError, match="2 images per class, expected ipc = 3"):
        synthesize.run(config, workdir)


def test_a_pack_that_was_stopped_goes_on_in_packs_of_another_width(
    tmp_path, finished, monkeypatch, capsys
):
    config, workdir = prepare(tmp_path)
    config.synthesis.class_batches_per_device, config.checkpoint_minutes = 2, 0.0
    save = Checkpointer.save

    def save_and_stop(self, step, tree):
        save(self, step, tree)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            synthesize.run(config, workdir)
    config.synthesis.class_batches_per_device = 1
    result = synthesize.run(config, workdir)
    assert capsys.readouterr().out.count("going on from iteration 3 of 6") == 2
    assert result.image_iterations == result.promised == finished[2].promised
    difference = images_of(workdir).astype(int) - images_of(finished[1])
    assert np.abs(difference).max() <= 1  # float32, rounded to 8 bits
    assert not (workdir.synthesis / "checkpoints").exists()


def test_a_pack_that_outgrows_the_memory_goes_on_in_narrower_ones(
    tmp_path, finished, monkeypatch, capsys
):
    config, workdir = prepare(tmp_path)
    config.synthesis.class_batches_per_device, config.checkpoint_minutes = 2, 0.0
    call = rounds.Program.__call__

    def call_or_run_out(self, variables, state, slots, keys, t, *rest):
        if len(state.images) == 2 and t == 3:
            jax.block_until_ready(jax.numpy.zeros(2**46, np.uint8))  # 70 TB
        return call(self, variables, state, slots, keys, t, *rest)

    monkeypatch.setattr(rounds.Program, "__call__", call_or_run_out)
    result = synthesize.run(config, workdir)
    said = capsys.readouterr().out
    assert "out of the device's memory with 2 class batches side by side; going on with 1" in said
    assert said.count("going on from iteration 3 of 6") == 2
    assert result.image_iterations == result.promised
    difference = images_of(workdir).astype(int) - images_of(finished[1])
    assert np.abs(difference).max() <= 1  # float32, rounded to 8 bits


def test_one_class_batch_that_is_too_large_says_what_to_lower():
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    assert packing_width.narrower(5, error, say=lambda line: None) == 2
    with pytest.raises(InputError, match=r"smaller synthesis\.class_batch, or .*bfloat16"):
        packing_width.narrower(1, error)
