"""Which outputs of a classifier are the classes of a data set."""

import json

import pytest

from delt_jax.data import class_names
from delt_jax.errors import InputError
from delt_jax.stages.teacher_classes import advice, choose_rows

PETS = ("dog", "bird")
ROWS_OF_IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


@pytest.mark.parametrize(
    ("option", "names", "outputs", "rows"),
    [
        ("imagenet1k", class_names.IMAGENETTE, 1000, ROWS_OF_IMAGENETTE),
        ("imagenet2012", class_names.IMAGENETTE, 1000, ROWS_OF_IMAGENETTE),
        ("cifar10", ("frog", "airplane"), 10, (6, 0)),
        ("cifar100", ("Aquarium fish", "baby"), 100, (1, 2)),
        ("bird,cat,dog", PETS, 3, (2, 0)),
        (" dog , bird", PETS, 2, (0, 1)),
        ("bird,dog", PETS, 2, (1, 0)),
        ("7,4", PETS, 10, (7, 4)),
        ("1,0", PETS, 2, (1, 0)),
        ("5", ("dog",), 10, (5,)),
        ('["7", "4"]', PETS, 10, (7, 4)),
        ('["cat, tom", "dog, hound", "bird"]', PETS, 3, (1, 2)),
        ("n02102040,n01440764", PETS, 1000, (217, 0)),
        ("imagenet1k", ("n02102040_springer", "n01440764 tench"), 1000, (217, 0)),
    ],
)
def test_rows_are_found(option, names, outputs, rows):
    assert choose_rows(option, names, outputs) == rows


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "cat\nbird\n\ndog\n"),
        ("names.txt", "\ufeffcat\r\nbird\r\ndog\r\n"),
        ("synsets.txt", "n00000001 cat, tom\nn00000002 bird\nn00000003 dog, hound\n"),
        ("rows.txt", "2\n1\n"),
        ("names.json", json.dumps(["cat", "bird", "dog"])),
        ("NAMES.JSON", json.dumps({"2": "dog", "0": "cat", "1": "bird"})),
        ("index.json", json.dumps({"0": ["n1", "cat"], "1": ["n2", "bird"], "2": ["n3", "dog"]})),
        ("config.json", json.dumps({"id2label": {"0": "cat", "1": "bird", "2": "dog"}})),
    ],
)
def test_rows_are_read_from_a_file(name, text, tmp_path):
    (tmp_path / name).write_text(text, "utf-8", newline="")
    option = str(tmp_path / name)
    if name == "index.json":
        assert choose_rows(option, ("n3 dog", "n2 bird"), 3) == (2, 1)
    else:
        assert choose_rows(option, PETS, 3) == (2, 1)


@pytest.mark.parametrize(
    ("option", "names", "outputs", "message"),
    [
        (
            "imagenet1",
            PETS,
            10,
            r"got 'imagenet1' \(did you mean 'imagenet1k'\?\); expected a data",
        ),
        ("nowhere.txt", PETS, 10, "got 'nowhere.txt'; expected a data set of the table"),
        ("7,10", PETS, 10, "row 10, expected 0 to 9"),
        ("-1,4", PETS, 10, "row -1, expected 0 to 9"),
        ("imagenet1k", PETS, 1000, "'dog': expected one of teacher.classes, as 'n01440764'"),
        ("7,7", PETS, 10, "row 7 is taken for 'dog' and 'bird'"),
        ("7,4,3", PETS, 10, "got 3 entries; expected the names of the 10 outputs of the weights"),
        ("cat,fish,bird", PETS, 3, "class 'dog': expected one of teacher.classes"),
        ("dog,bird,dog", PETS, 3, "class 'dog': rows 0, 2 of teacher.classes have this name"),
        ("cifar10", PETS, 1000, "got 10 entries; expected the names of the 1000 outputs"),
        ("cifar10", ("dog", "brid"), 10, r"class 'brid'.*did you mean 'bird'"),
        ("[1", PETS, 3, "no list of classes in JSON"),
        ("[" * 100_000, PETS, 3, "no list of classes in JSON"),
    ],
)
def test_another_option_is_refused(option, names, outputs, message):
    with pytest.raises(InputError, match=message):
        choose_rows(option, names, outputs)


@pytest.mark.parametrize(("first", "second"), [("\u00e9", "e\u0301"), ("e\u0301", "\u00e9")])
def test_names_composed_in_two_ways_are_one(first, second):
    assert choose_rows(f"tea,caf{first},milk", (f"Caf{second}",), 3) == (1,)


def test_advice_names_the_rows_that_fit():
    assert advice(class_names.IMAGENETTE, 1000) == (
        "by WordNet id the classes are rows 0, 217, 482, 491, ... of imagenet1k's: "
        "teacher.classes=imagenet1k takes them"
    )
    assert advice(("frog", "cat"), 10) == (
        "by name the classes are rows 6, 3 of cifar10's: teacher.classes=cifar10 takes them"
    )


@pytest.mark.parametrize(("names", "outputs"), [(PETS, 1000), (PETS, 7)])
def test_advice_without_a_list_says_what_there_is(names, outputs):
    assert advice(names, outputs).startswith("teacher.classes says which of them the classes are")
