"""Results of `benchmarks.synthesis` and `benchmarks.evaluation` as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.turns import OURS, THEIRS


def synthesis(result: dict[str, Any]) -> str:
    """The result of `benchmarks.synthesis`, a table for each part."""
    work, rates = result["work"], result["rates"]
    device = result["machine"]
    sections = [
        f"{work['arch']}, {work['size']} px, class batches of {work['images']}, IPC {work['ipc']}, "
        f"{work['dtype']}; {device['device']} ({device['devices']} of them, {device['cores']} "
        f"cores), jax {device['versions']['jax']}"
    ]
    if rates:
        sections.append(
            f"Forward pass: {result['forward_flops_per_image'] / 1e9:.3f} GFLOP an image. "
            f"Matrix product: {rates['flops'] / 1e9:,.0f} GFLOP/s. "
            f"Memory: {rates['bytes'] / 1e9:,.1f} GB/s."
        )
    for part, write in PARTS.items():
        if part in result:
            sections.append(write(result[part]))
    return "\n\n".join(sections)


def _rounds_table(found: dict[str, Any]) -> str:
    rows, shares = [], ("matrix_share", "bandwidth_share")
    named = [(f"{row['active']} active", row) for row in found["by_active"]]
    named += [("constant iterations", found["all"]), ("EarlyLate, mean", found["early_late_mean"])]
    for name, row in named:
        seconds, rate = row["seconds"], row["images_per_second"]
        rows.append([
            name,
            *(f"{seconds[side]:.4f}" if side in seconds else "" for side in (THEIRS, OURS)),
            *(f"{rate[side]:,.1f}" if side in rate else "" for side in (THEIRS, OURS)),
            f"{row['ratio']:.2f}" if "ratio" in row else "",
            *(f"{row[key]:.0%}" if key in row else "" for key in shares),
        ])  # fmt: skip
    header = ["", "theirs, s", "ours, s", "theirs, images/s", "ours, images/s", "ratio"]
    saved = ", ".join(f"{of} {share:.1%}" for of, share in found["saved"].items())
    ((kind, peak),) = found["memory"].items()
    return "\n".join([
        markdown([*header, "of matrix rate", "of bandwidth"], rows),
        "",
        f"EarlyLate saves: {saved}. Waiting for the compiler: {found['compile_seconds']:.1f} s. "
        f"Peak memory of the {kind.removesuffix('_peak_bytes')}: {peak / 1e6:,.0f} MB.",
    ])  # fmt: skip


def _early_late_table(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{found[key]['image_iterations']:,}",
            f"{found[key]['seconds']:.1f}",
            f"{found[key]['seconds_waiting_for_compiler']:.1f}",
        ]
        for key, name in (("early_late", "EarlyLate"), ("constant", "constant iterations"))
    ]
    saved = found["saved"]
    rows.append(["saved", f"{saved['count']:.1%}", f"{saved['seconds']:.1%}", ""])
    header = [found["schedule"], "image-iterations", "seconds", "of them waiting for the compiler"]
    return markdown(header, rows)


def _scaling_table(name: str, key: str) -> Callable[[list[dict[str, Any]]], str]:
    def write(rows: list[dict[str, Any]]) -> str:
        first = rows[0]["images_per_second"]
        cells = [
            [
                f"{row[key]}",
                f"{row['images_per_second']:,.1f}",
                f"{row['images_per_second'] / first:.2f}",
                f"{row['temp_bytes'] / 1e6:,.0f}" if "temp_bytes" in row else "",
                f"{row['compile_seconds']:.1f}",
            ]
            for row in rows
        ]
        header = [name, "image-iterations/s", "of the first", "activations, MB", "compiling, s"]
        return markdown(header, cells)

    return write


def _profile_table(found: dict[str, Any]) -> str:
    total = sum(found["seconds_by_kind"].values()) or 1.0
    rows = [
        [kind, f"{seconds * 1e3:.3f}", f"{seconds / total:.1%}"]
        for kind, seconds in found["seconds_by_kind"].items()
    ]
    floors = f"floor of its arithmetic {found['floor_seconds'] * 1e3:.3f} ms"
    if "memory_floor_seconds" in found:
        floors += f", of its memory traffic {found['memory_floor_seconds'] * 1e3:.3f} ms"
    longest = ", ".join(
        f"{name} {seconds * 1e3:.3f}" for name, seconds in found["longest_operations"].items()
    )
    return "\n".join([
        markdown(["kind of operation", "ms a step", "share"], rows),
        "",
        f"A step: {found['seconds'] * 1e3:.3f} ms; {floors}. Longest, ms: {longest}.",
    ])  # fmt: skip


PARTS: dict[str, Callable[[Any], str]] = {
    "rounds": _rounds_table,
    "early_late": _early_late_table,
    "class_batches": _scaling_table("class batches a device", "class_batches"),
    "devices": _scaling_table("devices", "devices"),
    "ipc": _scaling_table("IPC", "ipc"),
    "profile": _profile_table,
}


def evaluation(result: dict[str, Any]) -> str:
    """The result of `benchmarks.evaluation`."""
    work, found, device = result["work"], result["student"], result["machine"]
    rows = [
        [side, f"{found['seconds'][side]:.4f}", f"{found['images_per_second'][side]:,.1f}"]
        for side in (THEIRS, OURS)
        if side in found["seconds"]
    ]
    ((kind, peak),) = found["memory"].items()
    lines = [
        f"{work['arch']}, {work['size']} px, batches of {work['batch']}, {work['dtype']}; "
        f"{device['device']} ({device['cores']} cores), jax {device['versions']['jax']}",
        "",
        markdown(["", "seconds a step", "images/s"], rows),
        "",
        f"Floor of the arithmetic: {found['floor_seconds']:.4f} s, {found['matrix_share']:.0%} of "
        f"ours. First step, compiling included: {found['first_step_seconds']:.1f} s. Peak memory "
        f"of the {kind.removesuffix('_peak_bytes')}: {peak / 1e6:,.0f} MB.",
    ]
    if "ratio" in found:
        lines[-1] = f"Ratio: {found['ratio']:.2f}. {lines[-1]}"
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column text and the others numbers."""
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
