"""The arithmetic of an estimate, against numbers worked out by hand."""

import pytest

from configs import imagenet
from delt_jax.data.specs import get_spec
from delt_jax.data.split_sizes import SPLIT_SIZES, SplitSizes
from delt_jax.export.formats import FORMATS
from delt_jax.runtime.device_table import MACHINES
from delt_jax.stages import estimate
from delt_jax.stages.estimate import Task
from delt_jax.stages.planning import make_plan

RESNET18 = 2 * 1_814_073_344  # FLOPs of a forward pass at 224 px
ALL = ("squeeze", "select", "synthesize", "relabel", "evaluate")


def imagenet_tasks(arg="ipc=50", stages=ALL, sizes=SPLIT_SIZES["imagenet1k"], **changes):
    config = imagenet.get_config(arg)
    config.update_from_flattened_dict(changes)
    spec = get_spec("imagenet1k")
    plan = make_plan(config, 1000)
    return estimate.tasks(config, spec, plan, sizes, {"resnet18": RESNET18}.__getitem__, stages)


def by_what(tasks, beginning):
    (found,) = [task for task in tasks if task.what.startswith(beginning)]
    return found


def test_imagenet_at_ipc_50_costs_what_the_paper_says():
    tasks = imagenet_tasks()
    synthesis = by_what(tasks, "115,500,000 image-iterations")  # 57.75 % of 50,000 x 4,000
    assert synthesis.flops == 115_500_000 * 2 * RESNET18
    assert synthesis.pieces == 500
    students = by_what(tasks, "9 x resnet18 trained")
    assert students.flops == 9 * 50_000 * 300 * 4 * RESNET18
    assert by_what(tasks, "1,281,167 images ranked").flops == 1_281_167 * RESNET18
    trained = by_what(tasks, "resnet18 trained")
    assert trained.flops == 1_281_167 * 90 * 3 * RESNET18
    assert trained.compute_dtype == "bfloat16"
    assert by_what(tasks, "9 x resnet18 tested").flops == 9 * 50_000 * 31 * RESNET18
    assert by_what(tasks, "resnet18 on 50,000 images").flops == 50_000 * RESNET18
    assert by_what(tasks, "resnet18 on 200,000 real images").flops == 200_000 * RESNET18


def test_hard_labels_cost_no_teacher():
    tasks = imagenet_tasks(**{"evaluate.labels": ("soft", "hard")})
    students = by_what(tasks, "18 x resnet18 trained")
    assert students.flops == 9 * 50_000 * 300 * (4 + 3) * RESNET18
    tasks = imagenet_tasks(stages=("fairness",), **{"fairness.learning_rates": (0.01, 0.1)})
    # Three seeds: two sets without augmentation, whose labels the teacher gives; two rates.
    (fairness,) = tasks
    assert fairness.what == "12 x resnet18 trained: 50,000 images x 300 epochs"
    assert fairness.flops == 50_000 * 300 * (6 * 4 + 6 * 3) * RESNET18


def test_constant_iterations_cost_all_of_them():
    tasks = imagenet_tasks("ipc=50,method=early_only", ("synthesize",))
    assert tasks[0].what == "200,000,000 image-iterations"


def test_what_is_given_is_not_computed():
    tasks = imagenet_tasks("ipc=50,weights=torchvision", **{"select.ranking": "ranking.csv"})
    assert [task.stage for task in tasks] == [
        *("squeeze", "synthesize", "relabel"),  # squeeze: tested alone
        *("evaluate",) * 3,  # trained, tested, real images to compare with
    ]


def test_continual_learning_costs_the_images_seen_at_each_step():
    (task,) = imagenet_tasks(stages=("continual",), **{"continual.steps": 10})
    assert task.pieces == 90
    # 9 students see 5,000, 10,000 ... 50,000 images.
    assert task.flops == 9 * 275_000 * 300 * 4 * RESNET18


def test_without_the_size_of_the_data_set_the_rest_is_still_estimated():
    tasks = imagenet_tasks(sizes=None)
    assert [task.stage for task in tasks] == ["synthesize", "relabel", "evaluate"]


def test_rded_ranks_crops_and_synthesises_nothing():
    tasks = imagenet_tasks("ipc=10,method=rded")
    # 300 images of each of 1,000 classes, 5 crops of each.
    assert by_what(tasks, "300,000 images ranked, 5 crops of each").flops == 1_500_000 * RESNET18
    assert "synthesize" not in [task.stage for task in tasks]


@pytest.mark.parametrize(
    ("split", "pieces", "seconds"),
    [
        ("first host", 1, 25.0),
        ("devices", 8, 12.5),
        ("devices", 9, 2 * 100 / 9),  # the ninth runs alone
        ("devices", 1000, 12.5),
        ("hosts", 9, 5 * 25 / 9),  # 5 and 4, on 4 devices each
    ],
)
def test_work_is_dealt_in_whole_pieces(split, pieces, seconds):
    task = Task("evaluate", "", 1000.0, split, pieces)
    assert task.seconds(10.0, devices=8, hosts=2) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("epochs", "every", "tests"), [(300, 10, 31), (300, 0, 1), (3, 2, 2), (1, 10, 1), (4, 2, 3)]
)
def test_tests_are_those_of_the_protocol(epochs, every, tests):
    assert estimate.tested_epochs(epochs, every) == tests


def test_images_and_moments_of_the_whole_set():
    # 50,000 images of 224 x 224 x 3 numbers of 4 bytes, and two Adam moments.
    assert estimate.state_bytes(50_000, 224) == 90_316_800_000


def test_memory_is_weights_state_and_activations():
    one = estimate.synthesis_memory(100, 224, 25e6, 47e6)
    # 47 MB + 2 x 100 x 1.806336 MB + 100 x 25 MB
    assert one == pytest.approx(2_908_267_200)
    two = estimate.synthesis_memory(100, 224, 25e6, 47e6, width=2)
    assert two - one == pytest.approx(2_861_267_200)
    assert estimate.widest(16e9, one, two) == 5
    assert estimate.widest(2e9, one, two) == 0


def test_splits_are_cut_by_class():
    assert estimate.used_sizes(SplitSizes(1000, 100), 10, 30) == (300, 100)
    assert estimate.used_sizes(SplitSizes(1000, 100), 10, 0) == (1000, 100)


def test_disk_of_imagenet_at_ipc_50():
    config = imagenet.get_config("ipc=50,weights=torchvision")
    plan = make_plan(config, 1000)
    held = {
        part.what.split(":")[0]: part.size
        for part in estimate.disk(config, plan, 224, SPLIT_SIZES["imagenet1k"], 47e6, devices=4)
    }
    assert held == {
        "distilled/": 50_000 * 224 * 224 * 0.5,  # 1.25 GB
        "manifest.json and synthesis/": 50_000_000,
        "checkpoints while synthesising": 2 * 3 * 4 * 400 * 224 * 224 * 3,  # 1.45 GB
        "teacher/": 47e6,
        "ranking.csv": 1_281_167 * 64,
    }
    config.evaluate.labels = ("soft", "stored")
    labels = estimate.disk(config, plan, 224, SPLIT_SIZES["imagenet1k"], 47e6)[-3]
    assert labels.what == "labels/: 50,000 images x 300 epochs"
    assert labels.size == 50_000 * 300 * (2 * 1000 + 25)  # 30.4 GB
    config.labels.update({"epochs": 30, "top_k": 100, "dtype": "int8"})
    labels = estimate.disk(config, plan, 224, SPLIT_SIZES["imagenet1k"], 47e6)[-3]
    assert labels.what == "labels/: 50,000 images x 30 epochs"
    assert labels.size == 50_000 * 30 * (101 + 2 + 2 * 100 + 25)  # .49 GB
    assert labels.why == "the 100 largest of 1,000 int8 logits and 25 bytes of view each"


def test_disk_of_exports():
    config = imagenet.get_config("ipc=50,weights=torchvision")
    config.export.formats = tuple(FORMATS)
    plan, views = make_plan(config, 1000), 50_000 * 300

    def held(**options):
        config.update_from_flattened_dict(options)
        parts = estimate.disk(config, plan, 224, None, 47e6)[-len(FORMATS) :]
        return {part.what.removeprefix("export of 50,000 images: "): part.size for part in parts}

    manifest, files = 50_000 * 500, 50_000 * 224 * 224 * 0.5
    assert held() == {
        "image_folder": files + manifest,
        "tensors": 50_000 * (224 * 224 * 3 * 4 + 8) + manifest,  # 30.1 GB
        "safetensors": 50_000 * (224 * 224 * 3 + 8) + manifest,
        "npz": 50_000 * (224 * 224 * 3 + 8) + manifest,
        "webdataset": files + 50_000 * 3_000 + manifest,
        "huggingface": files + manifest,
        "array_record": files + manifest,
        "labels": files + views * (2 * 1000 + 25) + manifest,  # 31.6 GB
        "fkd": files + views * (2 * 1000 + 25 + 2_200 / 200) + manifest,
    }
    larger = held(**{"export.encoding": "png", "export.labels": "soft"})
    assert larger["huggingface"] == 6 * files + manifest
    assert larger["tensors"] == 50_000 * (224 * 224 * 3 * 4 + 8 + 4000) + manifest
    fewer = held(**{"labels.epochs": 30, "labels.dtype": "int8"})
    assert fewer["labels"] < fewer["fkd"] < 0.2 * larger["fkd"]


def test_the_machines_are_those_of_their_vendors():
    table = {machine.name: machine for machine in MACHINES}
    assert table["TPU v4-8"].devices * table["TPU v4-8"].bfloat16 == 1.1e15
    assert table["TPU v5e-64"].peak("bfloat16") == 197e12
    assert table["one H200 SXM"].peak("float32") == 494.5e12
    assert all(machine.source.startswith("https://") for machine in MACHINES)
    assert all(machine.devices % machine.hosts == 0 for machine in MACHINES)


def test_stored_labels_are_the_teachers_work_once():
    online = imagenet_tasks()
    stored = imagenet_tasks(**{"evaluate.labels": ("stored",)})
    (made,) = (task for task in stored if task.what.endswith("stored"))
    (usual, trained) = (
        next(task for task in tasks if task.stage == "evaluate" and "trained" in task.what)
        for tasks in (online, stored)
    )
    assert (made.stage, made.split) == ("relabel", "first host")
    fewer = imagenet_tasks(**{"evaluate.labels": ("stored",), "labels.epochs": 30})
    (made_of_fewer,) = (task for task in fewer if task.what.endswith("stored"))
    assert made.flops == 10 * made_of_fewer.flops
    seeds, sets = 3, 3
    assert (usual.pieces, trained.pieces) == (seeds * sets, seeds)
    # Training is three forward passes of a student (the teacher's network here), labelling one.
    assert made.flops == pytest.approx(usual.flops / (4 * seeds * sets))
    assert trained.flops == pytest.approx(3 * seeds * made.flops)
