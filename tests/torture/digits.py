"""The run that is tortured: the digits, each stage as short as it can be and still be hit."""

from configs import digits

SAVE_SECONDS = 0.4  # so often that most kills find a checkpoint to go on from


def get_config(arg=None):
    """configs/digits.py, cut down; the argument is not used."""
    del arg
    c = digits.get_config("ipc=4")
    c.checkpoint_minutes = SAVE_SECONDS / 60
    c.data.image_size = 16
    c.data.images_per_class = 60
    c.teacher.squeeze.epochs = 15
    c.select.batch_size = 50
    c.synthesis.iterations, c.synthesis.round_iterations = 200, 50
    c.synthesis.class_batch = 16
    c.synthesis.log_every = 5
    c.evaluate.labels = ("soft", "stored")
    c.evaluate.sets = ("distilled", "random")
    c.evaluate.seeds = (1,)
    c.evaluate.epochs = 12
    c.evaluate.real_images = 10
    c.evaluate.randaugment_ops = 0  # seconds of tracing at every start
    c.export.formats = ("image_folder", "npz", "webdataset", "labels")
    return c
