"""torch's own files, damaged and hostile; nothing that they hold may run."""

import io
import pickle
import pickletools
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated, nothing_appears, only_clear_errors

from delt_jax.errors import InputError
from delt_jax.models.torch_weights import read_state_dict

torch = pytest.importorskip("torch")


def saved(new_format):
    file = io.BytesIO()
    state = {"conv.weight": torch.ones(2, 3), "n": torch.zeros((), dtype=torch.int64)}
    beside = {"best": np.float64(91.7), "history": np.arange(3)}
    torch.save({"model": state} | beside, file, _use_new_zipfile_serialization=new_format)
    return file.getvalue()


class Touches:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (open, (str(self._path), "w"))


def read(folder, data):
    path = folder / "weights.pth"
    path.write_bytes(data)
    with only_clear_errors():
        read_state_dict(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name in ("weights.pth", "code.pth"):
        (folder / name).touch()
    with nothing_appears(folder):
        yield folder


@given(data=mutated(saved(True)))
def test_damaged_archive(folder, data):
    read(folder, data)


@given(data=mutated(saved(False)))
def test_damaged_file_of_before_archives(folder, data):
    read(folder, data)


def repacked(pickled):
    """The valid archive with another pickle in it, its sums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(True))) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("/data.pkl") else old.read(name))
    return file.getvalue()


def inner_pickle():
    with zipfile.ZipFile(io.BytesIO(saved(True))) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return archive.read(name)


@given(pickled=mutated(inner_pickle()))
def test_other_pickles_in_a_sound_archive(folder, pickled):
    read(folder, repacked(pickled))


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@given(
    pickled=st.lists(st.sampled_from(OPCODES) | st.binary(max_size=6), max_size=20).map(b"".join)
)
def test_any_opcodes(folder, pickled):
    read(folder, repacked(b"\x80\x02" + pickled + b"."))


@pytest.mark.parametrize("wrap", [bytes, repacked], ids=["bare", "in an archive"])
def test_code_is_refused_and_not_run(folder, wrap):
    touched = folder / "touched"
    pickled = pickle.dumps({"model": {"conv.weight": Touches(touched)}}, 2)
    path = folder / "code.pth"
    path.write_bytes(wrap(pickled))
    with pytest.raises(InputError, match=r"code\.pth: refused, .* could run code"):
        read_state_dict(path)
    assert not touched.exists()
