"""The benchmark of reading makes a set that is read as it says."""

from benchmarks import reading


def test_a_small_set_is_measured(tmp_path):
    reading.write_noise(tmp_path, 60, 16)
    found = reading.read(tmp_path)
    assert found["images"] == 60
    assert found["pixels_gb"] == 60 * 16 * 16 * 3 / 1e9
    assert found["seconds"] > 0
