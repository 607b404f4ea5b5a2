"""The report of a fabricated run: what it claims, what it escapes, and that it stands alone."""

import base64
import html.parser
import io
import itertools
import json
import re
import shutil

import ml_collections
import numpy as np
import pytest
from PIL import Image

from delt_jax.core.schedule import (
    Schedule,
    class_batches,
    constant_image_iterations,
    learning_rates,
    min_crop_scales,
)
from delt_jax.errors import InputError
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.report.wording import MISSING
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import report

HOSTILE = ('<script>alert("1")</script>', "b & 'c'", "{{ 7 * 7 }}", "plain")


def fabricate(
    folder,
    *,
    names=HOSTILE,
    ipc=5,
    iterations=40,
    round_iterations=10,
    size=8,
    accuracies=None,
    photos=None,
    evaluate=True,
    labels=("soft",),
):
    """Makes a work directory as the other stages would leave it, and its config.

    `photos` is uint8 [k, ipc, h, w, 3], noise by default; `accuracies` is set -> top-1 by seed.
    """
    rng = np.random.default_rng(0)
    if photos is None:
        photos = rng.integers(0, 256, (len(names), ipc, size, size, 3), np.uint8)
    source = folder / "photos"
    for label in range(len(names)):
        for rank in range(ipc):
            path = source / "train" / f"c{label}" / f"{rank}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photos[label, rank]).save(path)

    workdir = WorkDir(folder / "run")
    config = ml_collections.ConfigDict(
        {
            "method": "delt",
            "method_changes": ["select.mode=top"],
            "seed": 1,
            "ipc": ipc,
            "data": {
                "name": "own",
                "source": str(source),
                "image_size": size,
                "images_per_class": 0,
            },
            "report": {"classes": 20},
            "note": "</pre><script>config</script>",
        }
    )
    workdir.write_json(workdir.config_json, config.to_dict())
    workdir.write_json(
        workdir.teacher / "card.json",
        {"schema_version": 1, "arch": "conv3", "top1": 91.73, "class_names": names, "recipe": {}},
    )

    schedule = Schedule(ipc, iterations, round_iterations)
    batch = class_batches(schedule, len(names), ipc * len(names))[0]
    joins = class_batches(schedule, 1, ipc)[0].join.tolist()
    active = [batch.prefix(r) for r in range(schedule.rounds)]
    workdir.write_json(
        workdir.schedule_json,
        {
            "class_batches": 1,
            "slots_per_class": ipc,
            "rounds": schedule.rounds,
            "round_iterations": round_iterations,
            "iterations": iterations,
            "join_rounds": joins,
            "image_iterations": batch.image_iterations,
            "constant_image_iterations": constant_image_iterations(schedule, len(names)),
            "image_iterations_done": batch.image_iterations,
            "seconds": 12.5,
            "seconds_compile": 3.0,
            "seconds_per_iteration_by_round": [0.01 * n for n in active],
            "active_per_round": active,
            "learning_rate": learning_rates(0.25, iterations).tolist(),
            "min_crop": min_crop_scales("cosine", 1.0, iterations).tolist(),
            "device": "cpu",
        },
    )
    records = [
        ImageRecord(
            label,
            name,
            rank,
            joins[rank],
            iterations - joins[rank] * round_iterations,
            f"c{label}/{rank}.png",
        )
        for label, name in enumerate(names)
        for rank in range(ipc)
    ]
    strength = np.array([r.iterations / iterations for r in records])[:, None, None, None]
    flat = photos.reshape(-1, *photos.shape[2:]) / 255
    noise = rng.normal(0, 0.16, (*flat.shape[:2], flat.shape[2], 3))
    pixels = np.clip(flat + strength * noise, 0, 1)
    written = write_images(workdir.distilled, pixels, records, class_names=names)
    write_manifest(workdir.distilled, written, {"method": "EarlyLate"})

    log = MetricsLog(workdir.metrics_jsonl)
    for t in range(iterations):
        fresh = 1 + np.exp(-(t % round_iterations) / round_iterations)
        values = {"loss": fresh + rng.normal(0, 0.03), "loss_ce": fresh / 3}
        log.write(
            "synthesize", class_batch=0, round=t // round_iterations, iteration=t + 1, **values
        )
    if evaluate:
        accuracies = accuracies or {
            "distilled": (35.0, 36.0, 37.0),
            "selected": (34.0, 36.0, 35.0),
            "random": (28.0, 30.0, 29.0),
        }
        for kind, (chosen, values) in itertools.product(labels, accuracies.items()):
            for seed, top1 in zip((3407, 4663, 2897), values, strict=False):
                top1 = top1 if kind == "soft" else top1 / 2
                workdir.write_json(
                    workdir.evaluation / f"conv3_{chosen}_{seed}_{kind}.json",
                    {"student": "conv3", "set": chosen, "seed": seed, "top1": top1}
                    | {"labels": kind}
                    | {"best_top1": top1 + 1, "epochs": 300, "seconds": 2.0}
                    | {"curve": [[e, top1 * (1 - 0.5 ** (e / 40))] for e in range(1, 301, 10)]}
                    | {"per_class": [top1] * len(names), "class_names": names},
                )
        apart = rng.uniform(-0.03, 0.03, len(names)).tolist()
        cosines = {"distilled": 0.925, "selected": 0.947, "random": 0.943, "real": 0.8}

        def by_class(mean):
            return {"mean": mean, "per_class": [mean + d for d in apart]}

        workdir.write_json(
            workdir.evaluation / "diversity.json",
            {
                chosen: by_class(mean)
                | {"pairwise": by_class(mean - 0.3), "frechet_distance": 7.25, "images": 20}
                | {"coverage": by_class(0.5), "fingerprint": ""}
                | ({"coverage": None, "frechet_distance": None} if chosen == "real" else {})
                for chosen, mean in cosines.items()
            },
        )
    return config, workdir


class Page(html.parser.HTMLParser):
    """What a browser would make of the report."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config, workdir = fabricate(tmp_path_factory.mktemp("run"))
    result = report.run(config, workdir)
    return result, Page(result.report_html.read_text(encoding="utf-8"))


def test_results_json_has_the_schema(finished):
    result, _ = finished
    results = json.loads(result.results_json.read_text())
    assert results == result.results
    assert (results["schema"], results["schema_version"]) == ("delt_jax/results", 1)
    assert (results["method"], results["method_changes"]) == ("delt", ["select.mode=top"])
    assert "DELT (select.mode=top) on own" in result.report_html.read_text(encoding="utf-8")
    assert results["ipc"] == 5
    assert results["data"]["classes"] == 4
    assert results["teacher"] == {"arch": "conv3", "top1": 91.73}
    distilled = results["students"]["conv3"]["distilled"]
    assert distilled["top1_mean"] == pytest.approx(36.0)
    assert distilled["top1_std"] == pytest.approx(1.0)
    assert distilled["best_mean"] == pytest.approx(37.0)
    assert distilled["n"] == 3
    assert distilled["epochs"] == 300
    assert distilled["seeds"]["4663"] == {"top1": 36.0, "best": 37.0}
    assert list(results["students"]["conv3"]) == ["distilled", "selected", "random"]
    assert results["diversity"] == {"distilled": 0.925, "selected": 0.947, "random": 0.943}
    assert list(results["metrics"]) == ["distilled", "selected", "random", "real"]
    assert results["metrics"]["distilled"] == {
        "centroid_cosine": 0.925,
        "pairwise_cosine": pytest.approx(0.625),
        "coverage": 0.5,
        "frechet_distance": 7.25,
    }
    assert results["metrics"]["real"]["pairwise_cosine"] == pytest.approx(0.5)
    assert results["metrics"]["real"]["coverage"] is None
    cost = results["cost"]
    # IPC 5 over 4 rounds of 10: 40 + 40 + 30 + 20 + 10 iterations a class, four classes.
    assert (cost["image_iterations"], cost["promised"], cost["constant"]) == (560, 560, 800)
    assert cost["saved_fraction"] == pytest.approx(0.3)
    assert cost["seconds_saved_fraction"] == pytest.approx(0.3)
    assert results["paths"]["report"] == "report.html"
    assert "ranking" not in results["paths"]
    assert {"delt_jax", "python", "jax"} <= results["versions"].keys()


def test_page_is_whole_and_needs_nothing_else(finished):
    result, page = finished
    text = result.report_html.read_text(encoding="utf-8")
    assert page.open == []
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            target = attributes.get(name) or "#"
            assert target.startswith(("data:", "#")), target
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert re.findall(r"url\((?!#)", text) == []
    assert "prefers-color-scheme: dark" in style
    assert 'name="viewport"' in text


def test_page_can_be_read_without_seeing_it(finished):
    _, page = finished
    assert all("alt" in image for image in page.named("img"))
    assert all(svg.get("aria-label") for svg in page.named("svg") if svg.get("role") == "img")
    assert len(page.named("caption")) == len(page.named("table"))
    anchors = {a["href"].removeprefix("#") for a in page.named("a")}
    assert anchors <= {section["id"] for section in page.named("section")}


def test_diversity_is_shown_with_what_is_better(finished):
    _, page = finished
    text = " ".join(page.text.split())
    for name, better in (("of pairs", "lower"), ("coverage", "higher"), ("distance", "lower")):
        assert f"{name}{better} is better" in text
    row = text[text.index("training images", text.index("higher is better")) :]
    assert row.startswith(
        "training images0.8000.500" + 2 * MISSING
    )  # with which the others are compared
    # The cosine to the centroid depends on the number of images, so the real ones are no yardstick.
    assert "than the real training images" not in text
    labels = [svg.get("aria-label", "") for svg in page.named("svg")]
    assert any("Cosine of pairs by class" in label for label in labels)


def test_diversity_of_an_older_run_has_only_the_cosine(tmp_path):
    config, workdir = fabricate(tmp_path)
    older = {"distilled": {"mean": 0.9, "per_class": [0.9, 0.8, None, 1.0]}}
    workdir.write_json(workdir.evaluation / "diversity.json", older)
    result = report.run(config, workdir)
    others = dict.fromkeys(("pairwise_cosine", "coverage", "frechet_distance"))
    assert result.results["metrics"] == {"distilled": {"centroid_cosine": 0.9, **others}}
    page = Page(result.report_html.read_text(encoding="utf-8"))
    labels = [svg.get("aria-label", "") for svg in page.named("svg")]
    assert any("Cosine to the centroid by class" in label for label in labels)
    assert not any("Cosine of pairs by class" in label for label in labels)


def test_continual_learning_is_summed_up_over_seeds(tmp_path):
    config, workdir = fabricate(tmp_path)
    for chosen, step, seed, top1 in (
        *[("distilled", 1, 1, 70.0), ("distilled", 1, 2, 72.0), ("distilled", 2, 1, 50.0)],
        *[("distilled", 2, 2, 54.0), ("random", 1, 1, 60.0)],
    ):
        workdir.write_json(
            workdir.continual / f"{chosen}-conv3-{seed}-step{step}.json",
            {"student": "conv3", "set": chosen, "seed": seed, "step": step}
            | {"classes": 2 * step, "top1": top1},
        )
    result = report.run(config, workdir)
    continual = result.results["continual"]["conv3"]
    assert list(continual) == ["distilled", "random"]
    assert continual["distilled"] == [
        {"step": 1, "classes": 2, "top1_mean": 71.0, "top1_std": pytest.approx(2**0.5), "n": 2},
        {"step": 2, "classes": 4, "top1_mean": 52.0, "top1_std": pytest.approx(8**0.5), "n": 2},
    ]
    assert continual["random"] == [
        {"step": 1, "classes": 2, "top1_mean": 60.0, "top1_std": None, "n": 1}
    ]
    page = Page(result.report_html.read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert "which it may take for any class" in text
    assert "71.0 ± 1.4" in text
    assert "52.0 ± 2.8" in text
    labels = [svg.get("aria-label", "") for svg in page.named("svg")]
    assert "Top-1 accuracy of conv3 on the classes seen" in labels
    workdir.write_json(workdir.continual / "random-conv3-2-step1.json", {"student": "conv3"})
    with pytest.raises(InputError, match=r"step1\.json: no step of continual learning \(KeyError"):
        report.run(config, workdir)


def test_hostile_names_stay_text(finished):
    result, page = finished
    text = result.report_html.read_text(encoding="utf-8")
    assert len(page.named("script")) == 1  # ours
    assert "<script>alert" not in text
    assert "<script>config" not in text
    for name in HOSTILE:
        assert name in page.text
    assert "</pre><script>config</script>" in page.text


def test_every_image_and_photo_is_shown_losslessly(finished, tmp_path):
    _, page = finished
    cells = [image for image in page.named("img") if image["alt"].startswith("Distilled image of")]
    photos = [image for image in page.named("img") if image.get("class") == "photo"]
    assert len(cells) == len(photos) == 20
    _, workdir = fabricate(tmp_path)  # the same images again
    first = json.loads((workdir.distilled / "manifest.json").read_text())["images"][0]
    np.testing.assert_array_equal(
        decode_uri(cells[0]["src"]), np.asarray(Image.open(workdir.distilled / first["file"]))
    )
    np.testing.assert_array_equal(
        decode_uri(photos[0]["src"]),
        np.asarray(Image.open(tmp_path / "photos" / "train" / "c0" / "0.png")),
    )


def decode_uri(uri):
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    )


def test_says_so_when_distilled_does_not_win(tmp_path):
    accuracies = {
        "distilled": (30.0, 30.2, 29.8),
        "selected": (35.0, 35.1, 34.9),
        "random": (30.1,),
    }
    accuracies["random"] = (30.0, 31.0, 29.0)
    result = report.run(*fabricate(tmp_path, accuracies=accuracies))
    page = Page(result.report_html.read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert "5.0 points below the selected real images and level with random real images" in text
    assert (
        "With 3 seeds, the distilled images are worse than the selected real images and not shown "
        "to differ from random real images." in text
    )
    assert "worse" in text.split("distilled is")[1]
    assert "better" not in text.partition("Diversity and realism")[0]


def test_one_seed_has_no_deviation(tmp_path):
    accuracies = {"distilled": (40.0,), "random": (30.0,)}
    result = report.run(*fabricate(tmp_path, accuracies=accuracies))
    assert result.results["students"]["conv3"]["distilled"]["top1_std"] is None
    assert result.results["comparisons"][0]["low"] is None
    assert result.results["comparisons"][0]["clear"] is False
    page = Page(result.report_html.read_text(encoding="utf-8"))
    assert "Against random real images, one seed tells nothing from noise." in page.text


def test_hard_labels_stand_beside_soft_ones(tmp_path):
    result = report.run(*fabricate(tmp_path, labels=("soft", "hard")))
    students, hard = (result.results[key]["conv3"] for key in ("students", "hard_labels"))
    assert students["distilled"]["top1_mean"] == pytest.approx(36.0)
    assert hard["distilled"]["top1_mean"] == pytest.approx(18.0)
    assert students.keys() == hard.keys()
    assert students["distilled"].keys() == hard["distilled"].keys()
    text = " ".join(Page(result.report_html.read_text(encoding="utf-8")).text.split())
    assert "Top-1 accuracy, %, soft labels" in text
    assert "Top-1 accuracy, %, hard labels" in text
    assert "18.0 ± 0.5" in text
    assert "soft labels or with hard labels, the classes" in text
    assert "conv3, hard labels" in report.summary_table(result.results)
    rows = [
        (row["labels"], row["against"], row["difference"]) for row in result.results["comparisons"]
    ]
    assert rows == [
        ("soft", "selected", pytest.approx(1.0)),
        ("soft", "random", pytest.approx(7.0)),
        ("hard", "selected", pytest.approx(0.5)),
        ("hard", "random", pytest.approx(3.5)),
    ]


def test_stored_labels_stand_beside_the_others(tmp_path):
    result = report.run(*fabricate(tmp_path, labels=("soft", "hard", "stored")))
    stored = result.results["stored_labels"]["conv3"]["distilled"]
    assert stored.keys() == result.results["students"]["conv3"]["distilled"].keys()
    text = " ".join(Page(result.report_html.read_text(encoding="utf-8")).text.split())
    for kind in ("soft", "hard", "stored"):
        assert f"Top-1 accuracy, %, {kind} labels" in text
    assert "conv3, stored labels" in text
    assert "conv3, stored labels" in report.summary_table(result.results)


def test_hard_labels_alone(tmp_path):
    result = report.run(*fabricate(tmp_path, labels=("hard",)))
    assert result.results["students"] == {}
    (against_selected, against_random) = result.results["comparisons"]
    assert (against_random["labels"], against_random["against"]) == ("hard", "random")
    assert against_random["difference"] == pytest.approx(3.5)
    assert (against_selected["clear"], against_random["clear"]) == (False, True)
    page = Page(result.report_html.read_text(encoding="utf-8"))
    assert page.open == []
    text = " ".join(page.text.split())
    assert "Students were trained with hard labels alone." in text
    assert "trained on the distilled images with hard labels, reaches 18.0 ± 0.5" in text
    assert "the distilled images are better than random real images" in text
    assert (
        "conv3, hard labels: distilled less random +3.5 points, 95 % interval +2.4 to +4.6: better"
        in report.summary_table(result.results)
    )
    assert len(page.named("caption")) == len(page.named("table"))
    assert "accuracy" in [section["id"] for section in page.named("section")]


def test_fairness_is_shown_where_it_was_measured(tmp_path, finished):
    assert finished[0].results["fairness"] == {}
    assert "fairness" not in [section["id"] for section in finished[1].named("section")]
    config, workdir = fabricate(tmp_path)
    over_seeds = ("distilled_soft", "random_soft", "distilled_plain", "random_plain")
    ingredients = {name: [10.0 * i, 10.0 * i + 2] for i, name in enumerate(over_seeds, 1)}
    ingredients |= {"student": "conv3", "seeds": [1, 2], "full_data_hard": 88.5}
    ingredients |= {"distilled_hard": [55.0, 57.0], "hard_learning_rate": 0.05}
    ingredients |= {"hard_by_learning_rate": {"0.01": 50.0, "0.05": 56.0}}
    scores = {"lrs_mean": 0.2134, "lrs_std": 0.0125, "ars_mean": 0.3, "ars_std": None}
    measured = {**scores, "ingredients": ingredients}
    workdir.write_json(workdir.fairness_json, {"schema_version": 1, **measured})
    result = report.run(config, workdir)
    assert result.results["fairness"] == measured
    page = Page(result.report_html.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.named("caption")) == len(page.named("table"))
    for shown in ("0.213 ± 0.013", "0.300", "11.0", "21.0", "31.0", "41.0", "56.0", "88.5"):
        assert shown in page.text
    assert "learning rate 0.05, the best of 2" in page.text


def test_what_is_missing_is_left_out_and_said(tmp_path):
    config, workdir = fabricate(tmp_path, evaluate=False)
    shutil.rmtree(tmp_path / "photos")
    shutil.rmtree(workdir.teacher)
    workdir.schedule_json.unlink()
    workdir.metrics_jsonl.unlink()
    result = report.run(config, workdir)
    page = Page(result.report_html.read_text(encoding="utf-8"))
    sections = [section["id"] for section in page.named("section")]
    assert sections == ["images", "teacher", "config"]
    text = " ".join(page.text.split())
    assert "No student has been trained on these images" in text
    assert "None of the source photos could be found" in text
    assert "photos" in text  # the reason names the source
    assert "no teacher card" in text
    assert result.results["students"] == {}
    assert report.summary_table(result.results).endswith("no student was evaluated")


def test_wrong_work_directories_are_named(tmp_path):
    config, workdir = fabricate(tmp_path)
    broken = workdir.evaluation / "conv3_random_1.json"
    workdir.write_json(broken, {"student": "conv3"})
    with pytest.raises(
        InputError, match=r"conv3_random_1\.json: no evaluation \(KeyError: 'set'\)"
    ):
        report.run(config, workdir)
    broken.unlink()
    image = next((workdir.distilled / "train").rglob("*.png"))
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(InputError, match=image.name):
        report.run(config, workdir)
    (workdir.distilled / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest\.json"):
        report.run(config, workdir)


def test_summary_table(finished):
    result, _ = finished
    assert report.summary_table(result.results).splitlines() == [
        "delt (select.mode=top) on own, 5 images per class, 4 classes",
        "teacher conv3: top-1 91.7 %",
        "",
        "student  trained on     top-1 last           best  n  intra-class cosine",
        "------------------------------------------------------------------------",
        "conv3    distilled   36.0 +- 1.0 %  37.0 +- 1.0 %  3               0.925",
        "conv3    selected    35.0 +- 1.0 %  36.0 +- 1.0 %  3               0.947",
        "conv3    random      29.0 +- 1.0 %  30.0 +- 1.0 %  3               0.943",
        "",
        "conv3: distilled less selected +1.0 points, 95 % interval -1.3 to +3.3: not shown to "
        "differ",
        "conv3: distilled less random +7.0 points, 95 % interval +4.7 to +9.3: better",
        "",
        "image-iterations 560 of 800 constant (30.0 % saved)",
        "synthesis took 12.5 s on cpu",
    ]
