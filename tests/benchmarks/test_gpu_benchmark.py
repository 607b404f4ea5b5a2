import argparse
import sys

from benchmarks import gpu


def test_a_section_that_fails_or_hangs_is_told_of(monkeypatch, tmp_path):
    commands = {
        "breaks": "raise SystemExit(3)",
        "hangs": "import time; time.sleep(60)",
        "writes": f"open({str(tmp_path / 'ran')!r}, 'w').close()",
    }
    for name, code in commands.items():
        command = [sys.executable, "-c", code]
        monkeypatch.setitem(gpu.SECTIONS, name, lambda *_, command=command: command)
    args = argparse.Namespace(cache=str(tmp_path))
    results = {name: gpu.run_section(name, args, {}, seconds=1.5) for name in commands}
    assert "exit status 3" in results["breaks"]["failed"]
    assert "timed out after 1." in results["hangs"]["failed"]
    assert "failed" not in results["writes"] and (tmp_path / "ran").exists()


def test_the_verdict_compares_with_the_goals():
    results = {
        "class_batches": {
            "class_batches": [
                {"class_batches": 1, "images_per_second": 15000.0},
                {"class_batches": 2, "images_per_second": 21000.0},
            ]
        },
        "beside": {"failed": "timed out", "rounds": {"all": {"ratio": 2.5}}},
        "rounds": {"skipped": "after 9.5 minutes"},
        "cifar10": {"wall_seconds": 150.0, "stage_seconds": {"squeeze": 90.0, "export": 0}},
    }
    assert gpu.best(results)["class_batches"] == 2
    assert gpu.verdict(results) == [
        "image-iterations/s, bfloat16: 21,000.0 (goal 20,000: met)",
        "times the authors' code, all images active: 2.5 (goal 3: missed)",
        "seconds for CIFAR-10, all stages: 150.0 (goal 180: met)",
        "  squeeze: 90.0 s",
        "section beside failed: timed out",
        "section rounds skipped: after 9.5 minutes",
    ]


def test_without_a_result_one_class_batch_is_taken():
    assert gpu.best({"class_batches": {"failed": "no device"}})["class_batches"] == 1
    args = argparse.Namespace(quick=False, reference=None)
    assert "--class-batches=1" in gpu.rounds(args, gpu.pathlib.Path("x"), {})
