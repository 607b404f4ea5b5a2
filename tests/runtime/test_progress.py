"""Progress in a log: done, rate, time left."""

from delt_jax.runtime import progress
from delt_jax.runtime.progress import Progress


def test_a_log_shows_done_rate_and_time_left(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress(1000, "synthesize", "image-iterations", done=200) as bar:
        now = 9.0  # compiling: does not count
        bar.advance(50)
        now = 14.0
        bar.advance(50, loss=0.25)
        now = 26.0
        bar.advance(700, loss=0.125)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "synthesize: 300/1,000 image-iterations, 10/s, 1 min 10 s left loss 0.25"
    assert second == "synthesize: 1,000/1,000 image-iterations, 44.1/s, 26 s loss 0.125"


def test_work_that_ends_at_once_prints_nothing(capsys):
    with Progress(3, "select") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""


def test_durations_read_well():
    assert progress._duration(59.4) == "59 s"
    assert progress._duration(61) == "1 min 01 s"
    assert progress._duration(7260) == "2 h 01 min"


def test_the_first_call_tells_no_rate(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress(3, "evaluating", "epochs") as bar:
        now = 60.0
        bar.advance(1)
        assert capsys.readouterr().err == "evaluating: 1/3 epochs, under way\n"
        now = 62.0
        bar.advance(2)


def test_a_listener_hears_instead_of_the_log(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", -1.0)  # a line for each advance
    heard = []
    with progress.listening(heard.append), Progress(10, "ranking", "images", done=2) as bar:
        bar.advance(3)
        bar.advance(5, loss=0.5)
    assert heard == [
        progress.Advance("ranking", 5, 10, "images", {}),
        progress.Advance("ranking", 10, 10, "images", {"loss": 0.5}),
    ]
    assert capsys.readouterr().err == ""
    with progress.listening(None), Progress(1, "ranking", "images") as bar:
        bar.advance()
    assert capsys.readouterr().err.startswith("ranking: 1/1 images")
