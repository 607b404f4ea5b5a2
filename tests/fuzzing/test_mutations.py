"""What the fuzzing would notice."""

import mutations
import pytest


def test_what_hangs_fails(monkeypatch):
    monkeypatch.setattr(mutations, "SECONDS", 0.05)
    with pytest.raises(pytest.fail.Exception, match="it hangs"), mutations.only_clear_errors():
        endless()


def endless():
    while True:
        with mutations.only_clear_errors():
            pass


@pytest.mark.skipif("sys.platform != 'linux'")
def test_what_takes_all_memory_fails():
    with pytest.raises(MemoryError), mutations.only_clear_errors():
        bytearray(2 * mutations.MEMORY)
