"""Programs for machines that are elsewhere, compiled here for the processor in their place."""

import json
import sys

import jax
import pytest
from jax.experimental import topologies

from benchmarks import ahead
from delt_jax import target
from delt_jax.errors import InputError

TINY = ["--arch=conv3_w32", "--size=8", "--images=4", "--ipc=4", "--classes=2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h200", "v5e-8"])
def test_a_row_for_each_number_of_class_batches(name, monkeypatch, tmp_path):
    monkeypatch.setattr(ahead, "devices", lambda name, count: jax.devices()[:count])
    file = tmp_path / "result.json"
    args = ahead.parse([f"--target={name}", *TINY, "--class-batches=1,2", f"--json={file}"])
    result = ahead.measure(args)
    one, two = result["rows"]
    assert (one["images"], two["images"]) == (4, 8)
    assert two["flops"] == 2 * one["flops"] and two["bytes_moved"] > one["bytes_moved"]
    seconds = max(one["arithmetic_seconds"], one["memory_seconds"])
    assert one["images_per_second_at_peak"] == pytest.approx(4 / seconds)
    assert one["collectives"] == two["collectives"] == 0
    assert json.loads(file.read_text()) == json.loads(json.dumps(result))
    table = ahead.table(result)
    assert f"compiled for 1 of {name}" in table and table.count("\n| 1 |") == 1
    assert target.platform() == jax.default_backend()


def test_a_compiler_that_is_not_installed_is_named(monkeypatch, capsys):
    def missing(*args, **options):
        raise RuntimeError("no TPU support\nand more")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    monkeypatch.setattr(ahead, "prepare", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ahead", "--target=v5e-8", *TINY])
    with pytest.raises(SystemExit) as error:
        ahead.main()
    assert error.value.code == (
        "error: --target v5e-8: no compiler for it (no TPU support); expected pip install "
        "'jax[tpu]'"
    )


def test_more_devices_than_the_machine_has_are_refused(monkeypatch):
    found = topologies.TopologyDescription(jax.devices()[:1])
    monkeypatch.setattr(topologies, "get_topology_desc", lambda *args, **options: found)
    with pytest.raises(InputError, match="--devices 9: v5e-8 has 1"):
        ahead.devices("v5e-8", 9)
