"""The table of formats and options, and what is the same for all formats."""

import json
import pathlib
import textwrap

import pytest
from digits_set import FORMATS, write_digits

from configs import base
from delt_jax.errors import InputError
from delt_jax.export import formats
from delt_jax.export.export_folder import problems
from delt_jax.export.manifest import read_manifest


def test_options_have_the_defaults_of_the_config():
    ours = base.get_base().export.to_dict()
    assert ours.pop("formats") == () and ours.pop("directory") == ""
    assert ours == {option.name: option.default for option in formats.OPTIONS}


@pytest.mark.parametrize("name", FORMATS)
def test_card_manifest_and_sums(name, tmp_path):
    if module := formats.FORMATS[name].needs[0]:
        pytest.importorskip(module)
    write_digits(tmp_path / "distilled")
    written = formats.export(tmp_path / "distilled", tmp_path / "out", [name], {"quality": 90})
    assert written == {name: tmp_path / "out" / name}
    assert problems(written[name]) == []
    header = read_manifest(written[name]).header
    assert header["method"] == "EarlyLate"
    assert header["export"]["class_names"] == ["zero", "one", "two"]  # in label order
    assert header["export"]["format"] == name
    assert header["export"]["options"]["quality"] == 90
    assert len(json.loads((written[name] / "manifest.json").read_text())["images"]) == 24
    assert formats.FORMATS[name].loading.strip() in (written[name] / "README.md").read_text()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["zip"], {}, r"export\.formats: got 'zip', expected some of image_folder, tensors"),
        (["tensor"], {}, r"did you mean 'tensors'"),
        (["npz"], {"encodings": "png"}, r"export\.encodings: no such option, .* mean 'encoding'"),
        (["npz"], {"encoding": "webp"}, r"export\.encoding: got 'webp', expected one of '', png"),
        (["npz"], {"quality": 96}, r"export\.quality: got 96, expected 1 to 95"),
        (["npz"], {"quality": "95"}, r"export\.quality: got '95', expected int"),
        (["npz"], {"naming": "wnid"}, r"export\.naming: got 'wnid'"),
        (["npz"], {"labels": "both"}, r"export\.labels: got 'both', expected one of hard, soft"),
        (["npz"], {"shard_megabytes": 0}, r"export\.shard_megabytes: got 0, expected 1 to"),
    ],
)
def test_mistakes_end_before_anything_is_written(names, options, message, tmp_path):
    write_digits(tmp_path / "distilled")
    with pytest.raises(InputError, match=message):
        formats.export(tmp_path / "distilled", tmp_path / "out", names, options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"tensors"}))
def test_the_same_set_gives_the_same_bytes(name, tmp_path):
    write_digits(tmp_path / "distilled")
    first, second = (
        formats.export(tmp_path / "distilled", tmp_path / out, [name])[name] / "SHA256SUMS"
        for out in ("a", "b")
    )
    assert first.read_text() == second.read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_the_page_of_formats_has_the_lines_that_load_it(name):
    """They are run by test_clients_torch.py."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert textwrap.indent(formats.FORMATS[name].loading.strip("\n"), "    ") in section
