"""How diverse and how real sets of images are, in the teacher's penultimate features."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int64, UInt8

from delt_jax.core import data_parallel, programs, training
from delt_jax.core.augment.views import Statistics
from delt_jax.core.diversity import intra_class_cosine, pairwise_cosine
from delt_jax.core.realism import NEAREST, coverage, frechet_distance
from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import UNREADABLE
from delt_jax.data.specs import DatasetSpec
from delt_jax.models.network import Network
from delt_jax.report.results import REAL
from delt_jax.runtime import strict_json
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.opening import evenly_spaced, open_split
from delt_jax.stages.training_sets import TrainingSet

BATCH_SIZE = 100
_SCHEMA_VERSION = 1  # of an entry

Features = tuple[Float[np.ndarray, "n d"], Int64[np.ndarray, " n"]]  # and the class of each


def measure_diversity(
    config: Any,
    workdir: WorkDir,
    spec: DatasetSpec,
    sets: Mapping[str, Callable[[int], TrainingSet]],
    teacher: Network,
) -> None:
    """Writes diversity.json; a set that was measured before, from the same inputs, is not again.

    The entry of a set is `{mean, per_class}` of the cosine to the centroid of the class, `pairwise`
    and `coverage` alike, `frechet_distance`, the number of `images`, the `fingerprint` of what it
    was made from. Where a set is drawn for each seed, these are means over the seeds. Training
    images, evenly spaced among those of each class, are what the sets are compared with, and a set
    themselves, "real". Coverage and distance are null for it, and where no real images are wanted.

    Args:
      config: reads `data`, `evaluate.seeds` and `evaluate.real_images`.
      workdir: has the teacher's card; takes `evaluation/diversity.json`.
      spec: of `config.data`.
      sets: name -> images by seed; only "random" is another set for another seed.
      teacher: whose features they are.

    Raises:
      InputError: where the training images cannot be opened.
    """
    path = workdir.evaluation / "diversity.json"
    before = workdir.read_json(path) if path.exists() else {}
    seeds = {name: config.evaluate.seeds[: None if name == "random" else 1] for name in sets}
    most = config.evaluate.real_images
    real = evenly_spaced(open_split(config, spec, "train"), most) if most else None
    made_from = {
        "schema_version": _SCHEMA_VERSION,
        "teacher": workdir.read_json(workdir.teacher / "card.json")["sha256"],
        "nearest": NEAREST,
        "real": None if real is None else [spec.image_size, *real.names],
    }
    identities = {name: _identity(made_from, sets[name], seeds[name]) for name in sets}
    if real is not None:
        identities[REAL] = fingerprint(made_from)
    entries = {
        name: before[name]
        for name, identity in identities.items()
        if before.get(name, {}).get("fingerprint") == identity
    }
    missing = [name for name in identities if name not in entries]
    if missing:
        features_of = penultimate(teacher)
        reference = _real_features(features_of, real, config, spec) if real is not None else None
        for name in missing:
            if name == REAL:
                assert reference is not None
                measured = [_measure(*reference, None, teacher.num_classes)]
            else:
                drawn = map(sets[name], seeds[name])
                found = (
                    (programs.apply_in_batches(features_of, s.images), s.labels) for s in drawn
                )
                measured = [_measure(*part, reference, teacher.num_classes) for part in found]
            entries[name] = _entry(measured) | {"fingerprint": identities[name]}
    workdir.write_json(path, {name: entries[name] for name in identities})


def _identity(
    made_from: Mapping[str, Any], images_of: Callable[[int], TrainingSet], seeds: Sequence[int]
) -> str:
    drawn = (images_of(seed) for seed in seeds)
    parts = [fingerprint({}, part.images, part.labels) for part in drawn]
    return fingerprint({**made_from, "parts": parts})


def penultimate(
    teacher: Network,
) -> Callable[[UInt8[np.ndarray, "b s s 3"]], Float[np.ndarray, "b d"]]:
    """The program that gives the features before the last layer; images are not augmented."""
    moments = Statistics.of(teacher.mean, teacher.std)
    mesh = device_mesh(data_parallel.IMAGES)
    variables = data_parallel.replicate(teacher.variables, mesh)
    program = programs.inference_program(_features_of(teacher.module), mesh)
    return lambda images: np.asarray(program(variables, images, moments))


@functools.lru_cache(maxsize=64)
def _features_of(module: nn.Module) -> training.Apply:
    def features(variables, inputs, train):
        _, sown = module.apply(variables, inputs, train=train, mutable=["features"])
        return sown["features"]["penultimate"]

    return features


def _real_features(
    features_of: Callable[..., np.ndarray], real: ImageSource, config: Any, spec: DatasetSpec
) -> Features:
    """The features of the images that can be read, decoded as they are passed."""
    options = {"strict": bool(config.data.strict), "workers": config.data.workers}
    images = CroppedImages(real, spec.image_size, hold_bytes=0, **options)
    features, labels = [], []
    with Progress(len(images), "features of real images", "images") as bar:
        for pixels, classes in images.filled_batches(None, BATCH_SIZE):
            readable = classes != UNREADABLE
            features.append(features_of(pixels)[: len(classes)][readable])
            labels.append(classes[readable])
            bar.advance(len(classes))
    if images.problems:
        # Not into unreadable.csv: that would change what is drawn as "random" from now on.
        logging.warning(
            "diversity: %s of %s training images could not be read and were left out: %s",
            *(f"{len(images.problems):,}", f"{len(images):,}"),
            next(iter(images.problems.values())),
        )
    return np.concatenate(features), np.concatenate(labels)


def _measure(
    features: Float[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"],
    real: Features | None,
    num_classes: int,
) -> dict[str, Any]:
    """Every measure of one set, `[k]` where it is of classes."""
    on_device = jnp.asarray(features), jnp.asarray(labels), num_classes
    measured: dict[str, Any] = {
        "images": len(labels),
        "centroid": np.asarray(intra_class_cosine(*on_device)[0]),
        "pairwise": np.asarray(pairwise_cosine(*on_device)[0]),
    }
    if real is not None:
        measured["coverage"] = coverage(features, labels, *real, num_classes)[0]
        measured["frechet_distance"] = frechet_distance(features, real[0])
    return measured


def _entry(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What diversity.json says of a set, from the measures of each of its draws."""
    means = {name: np.mean([draw[name] for draw in measured], axis=0) for name in measured[0]}

    def by_class(name: str) -> dict[str, Any]:
        values = means[name][~np.isnan(means[name])]
        mean = float(values.mean()) if len(values) else None
        return {"mean": mean, "per_class": strict_json.plain(means[name])}

    return by_class("centroid") | {
        "pairwise": by_class("pairwise"),
        "coverage": by_class("coverage") if "coverage" in means else None,
        "frechet_distance": strict_json.plain(means.get("frechet_distance", np.nan)),
        "images": int(means["images"]),
    }
