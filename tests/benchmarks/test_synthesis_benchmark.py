"""The measurements run, and count what they say they count; none asserts a time."""

import json

import pytest

from benchmarks import figures, machine, synthesis, tables
from benchmarks.recovery import Recovery, Work
from delt_jax.errors import InputError
from delt_jax.runtime import matrix_rate

TINY = ["--arch=conv3_w32", "--size=8", "--images=4", "--ipc=4"]
TINY += ["--schedule=4/2", "--steps=2", "--turns=1"]


@pytest.fixture(autouse=True)
def small_rates(monkeypatch):
    monkeypatch.setitem(matrix_rate.SIDE, "cpu", 16)
    monkeypatch.setitem(machine.BYTES, "cpu", 1024)


def measure(*flags):
    return synthesis.measure(synthesis.parse([*TINY, *flags]))


def test_rounds_are_the_prefixes_of_the_schedule(tmp_path):
    file = tmp_path / "result.json"
    result = measure(f"--json={file}")
    rounds = result["rounds"]
    assert [row["active"] for row in rounds["by_active"]] == [2, 4]
    assert rounds["saved"]["count"] == 0.25
    per_image = result["forward_flops_per_image"]
    assert [row["flops"] / per_image for row in rounds["by_active"]] == [4, 8]
    assert set(rounds["all"]["seconds"]) == {"ours"} and "ratio" not in rounds["all"]
    assert json.loads(file.read_text()) == json.loads(json.dumps(result))
    assert "| 2 active |" in tables.synthesis(result)


@pytest.mark.slow
def test_early_late_counts_all_image_iterations(monkeypatch):
    monkeypatch.setattr(synthesis, "refuse_kept_programs", lambda folder: None)  # time is no matter
    found = measure("--parts=early_late", "--class-batches=2")["early_late"]
    assert found["early_late"]["image_iterations"] == 2 * 2 * (2 + 4)
    assert found["constant"]["image_iterations"] == 2 * 4 * 4
    assert len(found["early_late"]["seconds_by_round"]) == 2
    assert min(found["early_late"]["seconds_by_round"]) > 0
    assert found["saved"]["count"] == 0.25


def test_kept_programs_are_refused_where_compiling_is_timed():
    synthesis.refuse_kept_programs(None)
    with pytest.raises(InputError, match="JAX_COMPILATION_CACHE_DIR is /kept; expected none"):
        synthesis.refuse_kept_programs("/kept")


@pytest.mark.slow
def test_class_batches_and_ipc_grow(tmp_path):
    result = measure("--parts=class_batches,ipc", "--try-class-batches=1,2", "--try-ipc=2")
    first, second = result["class_batches"]
    assert second["flops"] == 2 * first["flops"]
    assert second["seconds"] * second["images_per_second"] == pytest.approx(8)
    assert [(row["ipc"], row["programs"]) for row in result["ipc"]] == [(2, 2)]
    pytest.importorskip("matplotlib")
    figures.synthesis(result, tmp_path / "figure.svg")
    assert "image-iterations/s" in (tmp_path / "figure.svg").read_text()


def test_class_batches_split_over_devices():
    args = synthesis.parse([*TINY, "--class-batches=2"])
    recovery = Recovery(Work("conv3_w32", 8, images=4, ipc=4), devices=2)
    found = synthesis.pace(recovery, args, args.class_batches)
    assert found["seconds"] * found["images_per_second"] == pytest.approx(2 * 2 * 4)


@pytest.mark.filterwarnings("ignore:builtin type event_stats:DeprecationWarning")
def test_profile_names_kinds_and_floors():
    found = measure("--parts=profile")["profile"]
    assert found["seconds_by_kind"]["convolution"] > 0
    assert found["floor_seconds"] > 0 and found["memory_floor_seconds"] > 0
    assert "| convolution |" in tables.PARTS["profile"](found)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts=rounds,speed"], "--parts speed: expected some of rounds"),
        (["--schedule=4000"], "--schedule 4000: expected ITERATIONS/ROUND_ITERATIONS"),
        (["--ipc=1", "--classes=3"], "--classes 3: 4 images at IPC 1 need at least 4"),
    ],
)
def test_mistakes_end_in_a_line(flags, message):
    with pytest.raises(InputError, match=message):
        measure(*flags)
