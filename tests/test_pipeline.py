"""Stages in order, skipped where done, refused where the config has changed."""

import dataclasses
import os
import pathlib
import types

import jax
import pytest
import tiny_run
from ml_collections import ConfigDict

from delt_jax import pipeline
from delt_jax.core import compiling
from delt_jax.errors import InputError
from delt_jax.pipeline import Stage
from delt_jax.runtime import lock
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stage import flatten

STAGES = (
    Stage("squeeze", (), ("seed",), outputs=("teacher",)),
    Stage("select", ("squeeze",), ("ipc",), ignores=("ipc.log",), outputs=("ranking_csv",)),
    Stage("report", ("select",), (), outputs=("results_json",), always=True),
)


@pytest.fixture
def ran(monkeypatch):
    """Names of the stages that ran, in order; each writes its outputs."""
    names = []

    def module(path):
        stage = next(stage for stage in STAGES if path.endswith(f".{stage.name}"))

        def run(config, workdir):
            names.append(stage.name)
            for output in stage.outputs:
                workdir.write_text(getattr(workdir, output), "x")
            return stage.name

        return types.SimpleNamespace(run=run)

    monkeypatch.setattr(pipeline, "STAGES", STAGES)
    monkeypatch.setattr(pipeline, "NAMES", tuple(stage.name for stage in STAGES))
    monkeypatch.setattr(pipeline.importlib, "import_module", module)
    return names


def make_config(**changes):
    return ConfigDict({"seed": 0, "ipc": {"value": 1, "log": 5}} | changes)


def run(workdir, config, stages=("squeeze", "select", "report"), **options):
    return pipeline.run(config, workdir, stages, say=lambda line: None, **options)


def test_stages_run_in_their_order_and_once(tmp_path, ran):
    workdir = WorkDir(tmp_path)
    run(workdir, make_config(), ("report", "select", "squeeze"))
    assert ran == ["squeeze", "select", "report"]
    results = run(workdir, make_config())
    assert ran == ["squeeze", "select", "report", "report"], "only the report runs again"
    assert results == {"report": "report"}


def test_what_does_not_decide_a_result_may_change(tmp_path, ran):
    run(WorkDir(tmp_path), make_config())
    run(WorkDir(tmp_path), make_config(ipc={"value": 1, "log": 6}))
    assert ran.count("select") == 1


def test_a_changed_config_is_refused_naming_the_fields(tmp_path, ran):
    run(WorkDir(tmp_path), make_config())
    with pytest.raises(InputError, match=r"stage squeeze .*seed: 0 there, 1 now"):
        run(WorkDir(tmp_path), make_config(seed=1))
    assert len(ran) == 3


def test_deterministic_results_do_not_mix_with_others(tmp_path, ran, monkeypatch):
    monkeypatch.setattr(compiling, "_deterministic", False)
    run(WorkDir(tmp_path / "usual"), make_config())  # as from before there was the option
    run(WorkDir(tmp_path / "usual"), make_config(deterministic=False))
    assert ran == ["squeeze", "select", "report", "report"]
    assert not compiling._deterministic
    with pytest.raises(InputError, match="deterministic: None there, True now"):
        run(WorkDir(tmp_path / "usual"), make_config(deterministic=True))
    run(WorkDir(tmp_path / "other"), make_config(deterministic=True))
    assert compiling._deterministic
    with pytest.raises(InputError, match="deterministic: True there, None now"):
        run(WorkDir(tmp_path / "other"), make_config())


def test_overwrite_recomputes_the_stage_and_what_depends_on_it(tmp_path, ran):
    run(WorkDir(tmp_path), make_config())
    run(WorkDir(tmp_path), make_config(seed=1), overwrite=True)
    assert ran == ["squeeze", "select", "report"] * 2


def test_what_another_ipc_costs_is_said(tmp_path):
    workdir = WorkDir(tmp_path)
    values = tiny_run.make_config(tmp_path).to_dict()
    for stage in pipeline.STAGES[:5]:
        stage.write_record(values, workdir, 1.0)
    workdir.create()
    why = (
        "no image stays, for another IPC chooses other images, and all images of a class are "
        "optimised together"
    )
    for changes, message in (
        (
            {"ipc": 3},
            "select, synthesize, relabel, evaluate anew, with squeeze and the scores of the images "
            f"kept; {why}",
        ),
        ({"select.crops": 3}, "select, synthesize, relabel, evaluate anew, with squeeze kept"),
        ({"seed": 3}, "squeeze, select, synthesize, relabel, evaluate anew"),
        (
            {"synthesis.jitter": 3},
            "synthesize, relabel, evaluate anew, with squeeze and select kept",
        ),
    ):
        config = tiny_run.make_config(tmp_path)
        config.update_from_flattened_dict(changes)
        with pytest.raises(InputError) as caught:
            pipeline.run(config, workdir)
        assert str(caught.value).partition("depends on it: ")[2] == message


def test_all_fields_that_differ_are_named(tmp_path, ran, monkeypatch):
    monkeypatch.setattr(pipeline, "STAGES", (dataclasses.replace(STAGES[0], reads=("data",)),))
    run(WorkDir(tmp_path), make_config(data=dict.fromkeys("abcdef", 1)), ("squeeze",))
    message = r"\(data.a: 1 there, 2 now; .* data.d: 1 there, 2 now; data.e, data.f\)"
    with pytest.raises(InputError, match=message):
        run(WorkDir(tmp_path), make_config(data=dict.fromkeys("abcdef", 2)), ("squeeze",))


def test_a_change_of_a_stage_that_is_left_out_is_refused(tmp_path, ran):
    run(WorkDir(tmp_path), make_config())
    message = r"stage squeeze of another config \(seed: 0 there, 1 now\), and --stages leaves it"
    with pytest.raises(InputError, match=message):
        run(WorkDir(tmp_path), make_config(seed=1), ("select",), overwrite=True)
    assert len(ran) == 3


def test_what_a_cut_overwrite_left_is_no_result_for_later_stages(tmp_path, ran, monkeypatch):
    run(WorkDir(tmp_path), make_config())

    def die(self, workdir):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "clear", die)
        with pytest.raises(KeyboardInterrupt):
            run(WorkDir(tmp_path), make_config(seed=1), overwrite=True)
    ran.clear()
    message = "left of stage squeeze, whose --overwrite was cut short.*expected squeeze among"
    with pytest.raises(InputError, match=message):
        run(WorkDir(tmp_path), make_config(seed=1), ("select",))
    assert ran == []
    run(WorkDir(tmp_path), make_config(seed=1))
    assert ran == ["squeeze", "select", "report"]


@pytest.fixture
def leaves(ran, monkeypatch):
    """A stage that leaves a folder to go on from."""
    (squeeze, *others) = STAGES
    squeeze = dataclasses.replace(squeeze, leftovers=("teacher.partial*",))
    monkeypatch.setattr(pipeline, "STAGES", (squeeze, *others))
    import_module = pipeline.importlib.import_module

    def module(path):
        inner = import_module(path)

        def run(config, workdir):
            (workdir.path / "teacher.partial-7").mkdir(exist_ok=True)
            return inner.run(config, workdir)

        return types.SimpleNamespace(run=run)

    monkeypatch.setattr(pipeline.importlib, "import_module", module)
    return squeeze


def test_what_a_stage_goes_on_from_stays_until_its_record_says_that_it_is_done(
    tmp_path, ran, leaves, monkeypatch
):
    folder, write = tmp_path / "teacher.partial-7", Stage.write_record

    def die_when_done(self, values, workdir, seconds):
        if seconds is not None:
            raise KeyboardInterrupt
        write(self, values, workdir, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "write_record", die_when_done)
        with pytest.raises(KeyboardInterrupt):
            run(WorkDir(tmp_path), make_config(), ("squeeze",))
    assert folder.is_dir()
    run(WorkDir(tmp_path), make_config(), ("squeeze",))
    assert not folder.exists()
    assert ran == ["squeeze"] * 2


def test_what_a_kill_after_the_record_left_is_removed(tmp_path, ran, leaves, monkeypatch):
    def die(self, workdir):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "remove_leftovers", die)
        with pytest.raises(KeyboardInterrupt):
            run(WorkDir(tmp_path), make_config(), ("squeeze",))
    assert (tmp_path / "teacher.partial-7").is_dir()
    run(WorkDir(tmp_path), make_config(), ("squeeze",))
    assert ran == ["squeeze"]
    assert not (tmp_path / "teacher.partial-7").exists()


@pytest.mark.parametrize("kill_at", range(2, 7))
def test_overwriting_that_is_killed_leaves_nothing_of_the_old_config(
    tmp_path, ran, monkeypatch, kill_at
):
    workdir = WorkDir(tmp_path)
    run(workdir, make_config())
    seen, unlink, write = [], pathlib.Path.unlink, WorkDir.write_json

    def step():
        seen.append(1)
        if len(seen) == kill_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", lambda *a, **k: (step(), unlink(*a, **k)))
        patch.setattr(WorkDir, "write_json", lambda *a: (step(), write(*a)))
        with pytest.raises(KeyboardInterrupt):
            run(workdir, make_config(seed=1), overwrite=True)
    ran.clear()
    begun = kill_at > 2  # before the mark is written, all is as it was
    run(workdir, make_config(seed=0))
    assert ran == (["squeeze", "select", "report"] if begun else ["report"])


def test_a_stage_that_was_interrupted_runs_again(tmp_path, ran, monkeypatch):
    workdir = WorkDir(tmp_path)
    run(workdir, make_config())
    record = workdir.read_json(workdir.stages / "select.json")
    workdir.write_json(workdir.stages / "select.json", record | {"seconds": None})
    run(workdir, make_config())
    assert ran.count("select") == 2
    assert ran.count("squeeze") == 1


def test_a_result_that_was_deleted_is_made_again(tmp_path, ran):
    run(WorkDir(tmp_path), make_config())
    WorkDir(tmp_path).ranking_csv.unlink()
    run(WorkDir(tmp_path), make_config())
    assert ran.count("select") == 2


def test_a_missing_earlier_stage_is_named(tmp_path, ran):
    with pytest.raises(InputError, match="stage select: needs the result of stage squeeze"):
        run(WorkDir(tmp_path), make_config(), ("select",))


def test_a_second_run_in_the_same_work_directory_is_refused(tmp_path, ran):
    with (
        lock.held(tmp_path),
        pytest.raises(InputError, match=rf"process {os.getpid()} of host .* runs there"),
    ):
        run(WorkDir(tmp_path), make_config())
    assert ran == []
    run(WorkDir(tmp_path), make_config())
    assert len(ran) == 3


def test_what_a_kill_left_half_written_is_removed(tmp_path, ran):
    left = [tmp_path / name for name in (".config.json.0.7.partial", "a/.b.png.1.9.partial")]
    kept = [tmp_path / name for name in ("a/b.png", "a/.partial.txt", "a/c.partial")]
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    run(WorkDir(tmp_path), make_config())
    assert [path.exists() for path in (*left, *kept)] == [False, False, True, True, True]


def test_a_device_without_memory_names_the_stage_and_what_to_lower(tmp_path, ran, monkeypatch):
    def module(path):
        def run(config, workdir):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to")

        return types.SimpleNamespace(run=run)

    monkeypatch.setattr(pipeline.importlib, "import_module", module)
    stages = [dataclasses.replace(STAGES[0], memory=("a.batch_size", "a.crops"))]
    monkeypatch.setattr(pipeline, "STAGES", stages)
    message = (
        "stage squeeze: out of the device's memory; expected a smaller a.batch_size or a.crops"
    )
    with pytest.raises(InputError, match=message):
        run(WorkDir(tmp_path), make_config(), ("squeeze",))


def test_an_unknown_stage_is_refused(tmp_path, ran):
    with pytest.raises(InputError, match="stages: got 'selct', expected some of squeeze, select"):
        run(WorkDir(tmp_path), make_config(), ("selct",))
    with pytest.raises(InputError, match="stages: got none, expected some of squeeze, select"):
        run(WorkDir(tmp_path), make_config(), ())


def test_a_stage_that_is_opted_into_runs_unasked_only_then(tmp_path, ran, monkeypatch):
    squeeze, *others = STAGES
    stages = (dataclasses.replace(squeeze, opt_in=True, wanted_by="seed"), *others)
    monkeypatch.setattr(pipeline, "STAGES", stages)
    run(WorkDir(tmp_path), make_config(seed=1), stages=None)
    assert ran == ["squeeze", "select", "report"]
    run(WorkDir(tmp_path), make_config(seed=0), stages=None)
    assert ran == ["squeeze", "select", "report", "report"]
    with pytest.raises(InputError, match="holds stage squeeze of another config"):
        run(WorkDir(tmp_path), make_config(seed=0))  # asked for by its name


@pytest.mark.parametrize("start", [pipeline.announce, pipeline.estimate])
def test_options_are_checked_before_they_choose_stages(tmp_path, start):
    from configs import digits

    config = digits.get_config()
    config.continual.steps = None
    with pytest.raises(InputError, match=r"continual\.steps: got None"):
        start(config, WorkDir(tmp_path))


def test_every_stage_names_real_parts_of_the_config_and_work_directory():
    from configs import base

    flat = flatten(base.get_base().to_dict())
    for stage in pipeline.STAGES:
        for path in (
            *stage.reads,
            *stage.ignores,
            *stage.additive,
            *filter(None, [stage.wanted_by]),
        ):
            assert any(name == path or name.startswith(f"{path}.") for name in flat), path
        for output in stage.outputs:
            assert hasattr(WorkDir("x"), output)
        assert set(stage.needs) <= set(pipeline.NAMES)
        assert set(stage.memory) <= set(flat)
    assert dataclasses.is_dataclass(pipeline.STAGES[0])


def test_stored_labels_may_be_asked_for_later_but_not_changed():
    from configs import base

    (relabel,) = (stage for stage in pipeline.STAGES if stage.name == "relabel")
    config = base.get_base()
    before = relabel.inputs(config.to_dict())
    config.evaluate.labels = ("soft", "stored")
    assert relabel.inputs(config.to_dict()) == before
    for name, value in (("epochs", 5), ("batch_size", 7), ("min_scale", 0.5), ("flip", 0.0)):
        other = base.get_base()
        other.evaluate[name] = value
        assert relabel.inputs(other.to_dict()) != before, name
    other = base.get_base()
    other.labels.dtype = "int8"
    assert relabel.inputs(other.to_dict()) != before


def test_relabel_is_entered_again_for_stored_labels_alone():
    from configs import base

    (relabel,) = (stage for stage in pipeline.STAGES if stage.name == "relabel")
    config = base.get_base()
    for labels, again in ((("soft",), False), (("soft", "hard"), False), (("stored",), True)):
        config.evaluate.labels = labels
        assert relabel.keeps_itself(config.to_dict()) is again, labels
