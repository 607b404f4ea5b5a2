"""Groups of students: what a folder says of those that were begun, and what is removed."""

import pytest

from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.student_groups import StudentGroups, group_name


@pytest.fixture
def groups(tmp_path):
    return StudentGroups(tmp_path / "evaluation", WorkDir(tmp_path))


def begin(groups, *students, of="images"):
    """Begins a group, with a checkpoint; returns its name."""
    folder = groups.begin(students, [f"{one} of {of}" for one in students])
    (folder / "1").mkdir(parents=True, exist_ok=True)
    return folder.name


def listing(tmp_path):
    return {path.name for path in (tmp_path / "evaluation").iterdir()}


def test_groups_that_were_begun_are_found_whole_and_apart(groups):
    assert groups.begun({"a-1"}) == {}
    overlapping = begin(groups, "b-1", "a-3")
    first, second = begin(groups, "a-1", "a-2"), begin(groups, "a-3")
    assert first == group_name(["a-1", "a-2"], ["a-1 of images", "a-2 of images"])
    found = groups.begun({"a-1", "a-2", "a-3", "b-1"})
    assert found == {first: ["a-1", "a-2"], second: ["a-3"]}
    assert groups.begun({"a-1", "a-3"}) == {second: ["a-3"]}  # a-2 is none of this run
    groups.discard({"a-3"})
    assert groups.begun({"a-3", "b-1"}) == {overlapping: ["b-1", "a-3"]}


def test_a_damaged_note_is_told_and_passed_over(groups, tmp_path, capsys):
    name = begin(groups, "a-1")
    note = tmp_path / "evaluation" / f"{name}.students"
    note.write_text('["a-')
    assert groups.begun({"a-1"}) == {}
    assert f"{note}: not valid JSON" in capsys.readouterr().out
    assert begin(groups, "a-1") == name
    assert groups.begun({"a-1"}) == {name: ["a-1"]}


def test_a_group_takes_the_place_of_those_that_its_students_began_before(groups, tmp_path):
    begin(groups, "a-1", "a-2", of="other images")
    kept = begin(groups, "b-1", "b-2")
    name = begin(groups, "a-1", "a-2")
    assert begin(groups, "a-1", "a-2") == name  # as when a run goes on
    assert listing(tmp_path) == {kept, f"{kept}.students", name, f"{name}.students"}


def test_only_what_belongs_to_the_students_is_removed(groups, tmp_path):
    """The name of a kind may go on with a dot and more: `hard-1` and `hard-1.5`."""
    begin(groups, "a-1-hard-1")
    other = begin(groups, "a-1-hard-1.5")
    (tmp_path / "evaluation" / ".a-1-hard-1.json.swp").touch()
    (tmp_path / "evaluation" / "a-1-hard-1.json").touch()
    groups.discard({"a-1-hard-1"})
    others = {other, f"{other}.students", ".a-1-hard-1.json.swp", "a-1-hard-1.json"}
    assert listing(tmp_path) == others
