"""Ranking real images, and distilling them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from delt_jax.api.data import Images
from delt_jax.api.distilled import Distilled
from delt_jax.api.scratch import scratch
from delt_jax.api.settings import make_config
from delt_jax.api.teachers import check_fit
from delt_jax.data.patches import initial_images
from delt_jax.data.selection import check_class_sizes
from delt_jax.errors import InputError
from delt_jax.models.network import Network
from delt_jax.runtime.metrics import read_metrics
from delt_jax.runtime.progress import Advance, listening
from delt_jax.stages import select
from delt_jax.stages.ranking import Ranking
from delt_jax.stages.synthesize import Synthesis

OnProgress = Callable[[Advance], object] | None


def rank(
    teacher: Network,
    train: Images,
    *,
    seed: int = 0,
    on_progress: OnProgress = None,
    **options: Any,
) -> Ranking:
    """Scores every image by the teacher's probability of its class.

    >>> import delt_jax
    >>> train, _ = delt_jax.load_data("digits", images_per_class=20)
    >>> teacher = delt_jax.train_teacher(train, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> ranking = delt_jax.rank(teacher, train)
    >>> ranking.scores.shape, ranking.scores.dtype
    ((200,), dtype('float32'))

    Args:
      teacher: of the same classes.
      train: the images.
      seed: of what is drawn at random (`crops`, `images_per_class`).
      on_progress: called with a `delt_jax.Advance` in place of a progress bar.
      **options: see `delt_jax.options("rank")`. `crops=5` scores the best of five random crops of
        each image instead of its centre, as RDED does.

    Returns:
      A ranking: `.scores` float32 `[n]` in the order of the images, NaN for one that was not looked
      at or cannot be read; `.boxes` int64 `[n, 4]` (top, left, height, width) of the best crops, or
      None.

    Raises:
      InputError: for other classes than the teacher's, or an option that is wrong.
    """
    config = make_config("rank", options, seed=seed)
    check_fit(teacher, train)
    with scratch() as workdir, listening(on_progress):
        scores, boxes, _, seconds = select.score_images(
            config, train.spec, train.source, teacher, workdir
        )
    return Ranking(scores, boxes, seconds)


def synthesize(
    teacher: Network,
    train: Images,
    *,
    ipc: int,
    ranking: Ranking | Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
    on_progress: OnProgress = None,
    **options: Any,
) -> Distilled:
    """Distils images: DELT, unless the options say otherwise.

    >>> import delt_jax
    >>> train, _ = delt_jax.load_data("digits", images_per_class=20)
    >>> teacher = delt_jax.train_teacher(train, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> distilled = delt_jax.synthesize(teacher, train, ipc=2, iterations=4, round_iterations=2)
    >>> distilled
    Distilled(20 images of 32 x 32, 10 classes, joined in 2 rounds)
    >>> distilled.join_rounds[:2], distilled.iterations[:2]
    (array([0, 1]), array([4, 2]))

    Args:
      teacher: of the same classes, with BatchNorm.
      train: the real images to begin with.
      ipc: images per class.
      ranking: from `rank`, or scores `[n]` of one's own, larger for an easier image; None: made
        here.
      seed: of crops, flips and whatever is drawn.
      on_progress: called with a `delt_jax.Advance` in place of a progress bar, e.g.
        `lambda at: print(at.done / at.total, at.values)`. What it raises ends the synthesis.
      **options: see `delt_jax.options("synthesize")`. The paper's 4,000 `iterations` in rounds of
        500 are meant for a GPU. `early_late=False`: constant iterations; `iterations=0`: the
        selected images as they are; `initial="noise"`; `mode`: which images are selected.
        As published, images are truncated to 8 bits and stored as JPEG of quality 75, and those
        stored images are what comes back; `format="png", rounding="nearest"` keeps them whole.

    Raises:
      InputError: for a class with fewer than `ipc` images, other classes than the teacher's, or an
        option that is wrong.
    """
    config = make_config("synthesize", options, ipc=ipc, seed=seed, data__name=train.name)
    source, spec = train.source, train.spec
    select.check(config, spec.image_size)
    check_fit(teacher, train)
    check_class_sizes(source, ipc, factor=config.select.factor)
    with scratch() as workdir, listening(on_progress):
        if ranking is None:
            scores, boxes, _, _ = select.score_images(config, spec, source, teacher, workdir)
        elif isinstance(ranking, Ranking):
            scores, boxes = ranking.scores, ranking.boxes
        else:
            scores, boxes = np.asarray(ranking, np.float32), None
        if scores.shape != (len(source),):
            raise InputError(
                f"ranking of shape {scores.shape}; expected a score of each of the {len(source)} "
                "images"
            )
        selection = select.choose(config, source, scores, boxes)
        Synthesis(config, workdir, teacher, spec, source, selection).run()
        initial = None
        if config.synthesis.initial == "real":
            initial = initial_images(source, selection, spec.image_size)
        log = [row for row in read_metrics(workdir.metrics_jsonl) if row["stage"] == "synthesize"]
        return Distilled.kept(workdir.distilled, initial, log)
