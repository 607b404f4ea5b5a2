"""Measures the bytes of stored labels, and what students learn from fewer of them.

    python -m benchmarks.label_memory --workdir=runs/c10 --json=FILE [--ratios=1,10,40]

The work directory has a teacher and a distilled set. For each ratio the stage relabel stores labels
that take at most so small a part of FKD's bytes, and the stage evaluate trains students of several
seeds on them. Those of ratio 1 are FKD's own: float16 logits, an epoch stored for each one of the
student's. The others take the compact layout, `--dtype` and `--top-k`, and as many epochs as there
is room for.

FKD's bytes are counted twice: `payload`, that of its tensors, which the ratios are of, and `files`,
what its files take (they are many and small; of torch.save).

All that is made lies in `--folder`; the command goes on where it was stopped.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from benchmarks import command, machine
from configs import base
from delt_jax.errors import InputError
from delt_jax.export import compact_labels, fkd
from delt_jax.export.label_coding import LabelCoding
from delt_jax.export.stored_labels import open_files
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import evaluate, relabel

READ = ("teacher", "distilled")  # parts of the work directory


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Stores labels and trains students at each ratio."""
    config = read_config(args)
    rows = []
    whole = prepare(config, args, "x1")
    relabel.run(config, whole)
    files, record = open_files(whole.labels)
    epochs, stored = files.epochs, record["stored"]
    batches = -(-stored["images"] // stored["batch_size"])
    # Of an image: coordinates in float32, flip, position of the partner in int64; of a batch:
    # lambda and the box.
    image_bytes = 4 * 4 + 1 + 8 + 2 * stored["classes"]
    payload = epochs * (stored["images"] * image_bytes + batches * 5 * 8)
    _, labels = files.read(0)
    coding = LabelCoding(args.top_k, args.dtype, config.evaluate.temperature)
    views = compact_labels.compact_views(labels.views, stored["size"])
    tensors = {**views, **coding.encode(np.asarray(labels.logits))}
    epoch_bytes = sum(array.nbytes for array in tensors.values())
    for ratio in args.ratios:
        config = read_config(args)
        if ratio > 1:
            config.labels.epochs = min(epochs, int(payload / ratio / epoch_bytes))
            config.labels.dtype, config.labels.top_k = args.dtype, args.top_k
            if not config.labels.epochs:
                raise InputError(f"--ratios {ratio:g}: not an epoch fits; expected a smaller ratio")
        workdir = prepare(config, args, f"x{ratio:g}")
        relabel.run(config, workdir)
        found = evaluate.run(config, workdir)
        (summary,) = found.summaries
        rows.append(
            {
                "ratio": ratio,
                "epochs": config.labels.epochs or epochs,
                "dtype": config.labels.dtype,
                "top_k": config.labels.top_k,
                "bytes": written(workdir, args),
                "seeds": list(config.evaluate.seeds),
                "top1": [run.top1 for run in found.runs],
                "top1_mean": summary.top1_mean,
                "top1_std": summary.top1_std,
                "student": summary.student,
                "seconds": [run.seconds for run in found.runs],
            }
        )
    return {
        "machine": machine.describe("torch"),
        "data": config.data.name,
        "ipc": config.ipc,
        "teacher": record["teacher"],
        "images": stored["images"],
        "classes": stored["classes"],
        "epochs": epochs,
        "batch_size": stored["batch_size"],
        "fkd": {"payload": payload, "files": fkd_bytes(whole, args)},
        "rows": rows,
    }


def read_config(args: argparse.Namespace) -> Any:
    """The work directory's own, for students of stored labels alone."""
    values = WorkDir(args.workdir).read_json(args.workdir / "config.json")
    config: Any = base.get_base()
    with config.unlocked():
        config.update(_tuples(values))
    config.evaluate.labels, config.evaluate.sets = ("stored",), ("distilled",)
    config.evaluate.real_images = 0  # no diversity
    config.labels.update(base.get_base().labels)
    for name in ("epochs", "seeds", "students"):
        if getattr(args, name):
            config.evaluate[name] = getattr(args, name)
    return config


def prepare(config: Any, args: argparse.Namespace, name: str) -> WorkDir:
    """A work directory for one ratio, with links to what is only read."""
    workdir = WorkDir(args.folder / name)
    workdir.create()
    for part in READ:
        link = workdir.path / part
        if not link.exists():
            link.symlink_to((args.workdir / part).resolve())
    workdir.write_json(workdir.config_json, config.to_dict())
    return workdir


def written(workdir: WorkDir, args: argparse.Namespace) -> int:
    """Bytes of the compact files, which are written here."""
    folder = args.folder / f"{workdir.path.name}-compact"
    record = folder / "labels.json"
    files, about = open_files(workdir.labels)
    if not record.is_file() or json.loads(record.read_text())["stored"] != about["stored"]:
        for path in folder.glob("*"):
            path.unlink()
        if folder.is_dir():
            folder.rmdir()
        compact_labels.write_labels(files, about, folder, compact_labels.MEGABYTES)
    return json.loads(record.read_text())["layout"]["bytes"]


def fkd_bytes(workdir: WorkDir, args: argparse.Namespace) -> int:
    """Bytes of FKD's files, which are written here."""
    folder = args.folder / f"{workdir.path.name}-fkd"
    if not folder.is_dir():
        fkd.write_labels(*open_files(workdir.labels), folder)
    return sum(path.stat().st_size for path in folder.rglob("*.tar"))


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    payload, files = result["fkd"]["payload"], result["fkd"]["files"]
    lines = [
        f"{result['data']}, IPC {result['ipc']}: {result['images']} images, {result['epochs']} "
        f"epochs. FKD: {payload:,} bytes of tensors, {files:,} bytes of files.",
        "",
        "| | stored epochs | logits | compact bytes | of FKD's tensors | of FKD's files | top-1 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        kept = f"{row['top_k']} largest, " if row["top_k"] else ""
        spread = "" if row["top1_std"] is None else f" ± {row['top1_std']:.2f}"
        lines.append(
            f"| {row['ratio']:g}x | {row['epochs']} | {kept}{row['dtype']} | {row['bytes']:,} | "
            f"1/{payload / row['bytes']:.1f} | 1/{files / row['bytes']:.1f} | "
            f"{row['top1_mean']:.2f}{spread} |"
        )
    return "\n".join(lines)


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that the config had."""
    if isinstance(value, dict):
        return {name: _tuples(entry) for name, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.label_memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    flag = parser.add_argument
    flag("--workdir", type=pathlib.Path, required=True, help="with a teacher and a distilled set")
    flag("--folder", type=pathlib.Path, help="of what is made; default: WORKDIR-label-memory")
    flag("--ratios", default="1,10,40", help="of FKD's bytes to those of the labels")
    flag("--dtype", default="int8", help="of the logits where the ratio is above 1")
    flag("--top-k", type=int, default=0, help="logits that are kept there; 0: all")
    flag("--epochs", type=int, default=0, help="of the students; 0: the config's")
    flag("--seeds", default="", help="of the students, as 1,2,3; default: the config's")
    flag("--students", default="", help="architectures; default: the config's")
    command.output_flags(parser)
    args = parser.parse_args(arguments)
    args.ratios = tuple(map(float, args.ratios.split(",")))
    args.seeds = tuple(map(int, filter(None, args.seeds.split(","))))
    args.students = tuple(filter(None, args.students.split(",")))
    args.folder = args.folder or args.workdir.with_name(f"{args.workdir.name}-label-memory")
    return args


def main() -> None:
    command.run(parse, measure, table)


if __name__ == "__main__":
    main()
