"""The Python API: data set distillation in ten lines, for notebooks.

    import delt_jax

    train, test = delt_jax.load_data("digits")
    teacher = delt_jax.train_teacher(train, test, arch="conv3_w32", epochs=6, flip=False)
    ranking = delt_jax.rank(teacher, train)
    distilled = delt_jax.synthesize(
        teacher, train, ipc=10, ranking=ranking, iterations=400, round_iterations=50, flip=0.0
    )
    distilled.show()
    views = dict(flip=0.0, min_scale=0.5, randaugment_ops=0)  # digits: mild ones, never mirrored
    print(delt_jax.evaluate(distilled, test, teacher, epochs=20, seeds=(3407,), **views))
    distilled.save("out/digits")

Every function is importable from `delt_jax` itself, which is light: this package, and JAX with
it, is loaded by the first use. Options are those of the command line, under the same names and with
the same defaults, the paper's (`delt_jax.options("synthesize")`); results are the command line's
too, for the same stages compute them. Images are NumPy arrays, uint8 `[n, s, s, 3]`; labels are
int64 `[n]`; whatever is wrong ends in an `InputError` of one line.

What takes hours belongs to the command line, which goes on where it was stopped; here an
interrupted call is lost. `load_distilled` and `load_teacher` open what the command line made.
"""

from delt_jax.api.data import Images, load_data
from delt_jax.api.distilled import Distilled, load_distilled
from delt_jax.api.settings import options
from delt_jax.api.students import Evaluation, evaluate
from delt_jax.api.synthesis import rank, synthesize
from delt_jax.api.teachers import features, load_teacher, save_teacher, train_teacher
from delt_jax.errors import InputError
from delt_jax.models.network import Network
from delt_jax.runtime.progress import Advance
from delt_jax.stages.ranking import Ranking

__all__ = [
    "Advance",
    "Distilled",
    "Evaluation",
    "Images",
    "InputError",
    "Network",
    "Ranking",
    "evaluate",
    "features",
    "load_data",
    "load_distilled",
    "load_teacher",
    "options",
    "rank",
    "save_teacher",
    "synthesize",
    "train_teacher",
]
