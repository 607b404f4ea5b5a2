"""The generators of configs/sweeps.py: points are configs, with the paper's numbers."""

import pathlib

import pytest

from configs import presets, sweeps
from delt_jax.errors import InputError
from delt_jax.sweep.planning import load_sweep, plan
from delt_jax.sweep.points import Claim, Paper, Point, Sweep

DATA = ("digits", "cifar10", "cifar100", "tiny_imagenet", "imagenette", "imagenet100", "imagenet")


def planned(argument):
    return plan(sweeps.get_sweep(argument), pathlib.Path("runs"))


@pytest.mark.parametrize("data", DATA)
def test_every_method_of_every_data_set_is_a_config(data):
    steps = planned(f"methods,data={data},smoke")
    assert [step.config.method for step in steps] == list(presets.METHODS)
    assert steps[0].config.data.name == "digits"  # what smoke runs read
    assert steps[0].point.paper == {}  # a smoke run has nothing to do with the paper


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", ["round_iterations", "iterations", "selection", "students"])
@pytest.mark.parametrize("smoke", ["", ",smoke"])
def test_every_sweep_of_every_data_set_is_configs_that_can_run(data, name, smoke):
    for step in planned(f"{name},data={data}{smoke}"):
        synthesis = step.config.synthesis
        assert synthesis.iterations % synthesis.round_iterations == 0, step.point.name


@pytest.mark.parametrize("data", DATA)
def test_early_late_from_noise_differs_in_early_late_alone(data):
    steps = {step.point.name: step.config for step in planned(f"init,data={data},smoke")}
    assert len(steps) == 6
    for method in ("cda", "sre2l"):
        assert not steps[method].synthesis.early_late
        assert steps[f"{method}_early_late"].synthesis.early_late
        assert steps[f"{method}_early_late"].synthesis.initial == "noise"
    assert steps["cda_real"].synthesis.initial == "real"


def test_the_main_table_has_every_cell_of_the_paper():
    sweep = sweeps.get_sweep("main")
    by_name = {point.name: point for point in sweep.points}
    # 5 data sets x 3 IPC x 3 teachers of DELT; RDED's 15 of ResNet-18, 3 and 2 of ResNet-101.
    assert len(by_name) == 45 + 15 + 3 + 2
    point = by_name["imagenet-ipc50-resnet18-delt"]
    assert point.config == "configs/imagenet.py:ipc=50,method=delt,teacher=resnet18"
    assert point.paper == {"teacher": Paper(59.2, "table 1")}
    assert by_name["cifar10-ipc1-resnet101_small-delt"].overrides == {"synthesis.iterations": 3000}


def test_the_paper_s_own_order_is_claimed_where_delt_is_behind():
    claims = sweeps.get_sweep("main,data=tiny_imagenet,ipc=10+50,teacher=resnet18").claims
    delt, rded = (
        "tiny_imagenet-ipc{}-resnet18_small-delt",
        "tiny_imagenet-ipc{}-resnet18_small-rded",
    )
    assert claims == (
        Claim(delt.format(10), rded.format(10), "top1", "table 1: 43.0 against 41.9"),
        Claim(rded.format(50), delt.format(50), "top1", "table 1: 58.2 against 55.7"),
    )


def test_the_paper_s_numbers_are_of_its_own_settings_alone():
    assert sweeps.get_sweep("iterations").points[0].paper == {
        "teacher": Paper(44.87, "ablation of MI")
    }
    assert sweeps.get_sweep("iterations,ipc=50").points[0].paper == {}
    assert sweeps.get_sweep("methods,methods=delt,teacher=cifar_resnet20").points[0].paper == {}
    assert sweeps.get_sweep("methods").points[-1].paper == {}
    init = sweeps.get_sweep("init,data=cifar10,ipc=10")
    assert {p.name: p.paper["teacher"].top1 for p in init.points if p.paper} == {
        "cda_real": 39.4,
        "delt": 43.0,
    }
    assert init.claims[-1].source == "table 1 and ablation of EarlyLate: 43.0 against 39.4"


def test_convnets_see_the_size_of_images_that_the_paper_s_saw():
    (point,) = sweeps.get_sweep("main,data=imagenette,ipc=10,teacher=conv5").points
    assert point.overrides == {"data.image_size": 128}
    assert point.paper["teacher"].top1 == 51.7


def test_continual_learning_is_the_public_protocol_by_default():
    steps = planned("continual")
    assert [step.config.method for step in steps] == ["delt", "rded", "random"]
    assert {(step.config.ipc, step.config.continual.steps) for step in steps} == {(100, 5)}
    assert steps[0].config.data.name == "tiny-imagenet"
    assert steps[0].config.continual.order_seed == 0
    ten = planned("continual,data=cifar100,ipc=50,steps=10,methods=delt+random")
    assert [step.config.continual.steps for step in ten] == [10, 10]


def test_students_of_other_architectures_are_one_run():
    point = sweeps.get_sweep("students").points[0]
    assert point.overrides["evaluate.students"][0] == "teacher"
    assert {name: paper.top1 for name, paper in point.paper.items()} == {
        "teacher": 46.4,
        "efficientnet_b0": 47.1,
        "mobilenet_v2": 36.1,
        "mnasnet1_3": 40.7,
        "regnet_y_8gf": 57.5,
    }
    step = planned("students,data=digits,methods=delt,students=teacher+conv3")[0]
    assert step.config.evaluate.students == ("teacher", "conv3")


def test_another_schedule_is_of_the_methods_with_a_synthesis_and_is_said():
    argument = "methods,data=cifar10,ipc=50,methods=delt+cda+rded+random,schedule=1000/125"
    sweep = sweeps.get_sweep(argument)
    assert sweep.title == "Methods on cifar10, IPC 50, MI/RI 1000/125"
    assert all(point.paper == {} for point in sweep.points)
    found = {step.point.name: step.config.synthesis for step in planned(argument)}
    assert [(s.iterations, s.round_iterations) for s in map(found.get, ("delt", "cda"))] == [
        (1000, 125),
        (1000, 125),
    ]
    assert found["rded"].iterations == found["random"].iterations == 0


def test_single_images_have_no_diversity_to_compare():
    measures = {
        ipc: {claim.measure for claim in sweeps.get_sweep(f"methods,data=cifar10,ipc={ipc}").claims}
        for ipc in (1, 10)
    }
    assert measures == {1: {"top1"}, 10: {"top1", "cosine"}}


def test_methods_without_synthesis_are_those_of_no_iterations():
    steps = planned("methods,data=cifar10")
    real = [step.point.name for step in steps if not step.config.synthesis.iterations]
    assert tuple(real) == presets.WITHOUT_SYNTHESIS


def test_arguments_go_to_the_configs():
    sweep = sweeps.get_sweep(
        "methods,methods=delt,ipc=50,source=data/c,teacher=cifar_resnet20,weights=r.safetensors,"
        "statistics=imagenet,published"
    )
    assert sweep.points[0].config == (
        "configs/cifar10.py:ipc=50,method=delt,source=data/c,teacher=cifar_resnet20,"
        "weights=r.safetensors,statistics=imagenet,published"
    )


def test_a_comma_in_a_source_reaches_the_configs():
    sweep = sweeps.get_sweep("methods,methods=delt+rded,source='/data/birds, 2024'")
    assert [step.config.data.source for step in plan(sweep, pathlib.Path("runs"))] == [
        "/data/birds, 2024",
        "/data/birds, 2024",
    ]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("method", "sweep: got 'method', expected methods"),
        ("methods,ipcs=10", "got 'ipcs', expected ipc"),
        ("main,ipc=ten", "sweep argument ipc: got 'ten', expected numbers joined by"),
        ("methods,methods=delt+delt", "two points 'delt'"),
        ("methods,schedule=1000", "schedule: got '1000', expected MI/RI"),
    ],
)
def test_a_wrong_argument_is_named(argument, message):
    with pytest.raises(InputError, match=message):
        sweeps.get_sweep(argument)


def test_a_sweep_is_checked():
    point = Point("a", "configs/digits.py")
    with pytest.raises(InputError, match=r"point '../a', expected a name of letters"):
        Sweep("s", "S", (Point("../a", "configs/digits.py"),))
    with pytest.raises(InputError, match="a claim about 'b', expected one of a"):
        Sweep("s", "S", (point,), (Claim("a", "b", "top1", ""),))
    with pytest.raises(InputError, match="claim about 'top5', expected top1 or cosine"):
        Sweep("s", "S", (point,), (Claim("a", "a", "top5", ""),))
    with pytest.raises(InputError, match="no points"):
        Sweep("s", "S", ())


def test_a_file_without_a_sweep_is_named(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(InputError, match=r"empty\.py has no get_sweep"):
        load_sweep(f"{tmp_path / 'empty.py'}:methods")
    with pytest.raises(InputError, match=r"no file 'nowhere\.py'"):
        load_sweep("nowhere.py:methods")
