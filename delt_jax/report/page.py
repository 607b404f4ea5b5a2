"""report.html: one file that needs no network and no scripts, from the record and its summary."""

import datetime as dt
import itertools
import statistics
from typing import Any

import jinja2
import markupsafe

from delt_jax.overrides import named
from delt_jax.report import charts, results, wording
from delt_jax.report.colours import join_round_colours
from delt_jax.report.gallery import Column, Gallery, Photo, Read, build_gallery
from delt_jax.report.intervals import CONFIDENCE
from delt_jax.report.record import Evaluation, Record, config_value
from delt_jax.report.results import KINDS
from delt_jax.report.timeline import THUMBNAIL, Timeline, build_timeline
from delt_jax.runtime import strict_json

_NAMES = {
    "delt": "DELT",
    "early_only": "EarlyOnly (constant iterations)",
    "cda": "CDA",
    "sre2l": "SRe2L",
    "rded": "RDED",
    "selected": "Selected images",
    "random": "Random images",
}


def render(
    record: Record,
    summary: dict[str, Any],
    read: Read,
    photo: Photo,
    photo_note: str = "",
    most_classes: int = 20,
) -> str:
    """Returns the report as HTML.

    Args:
      record: the run.
      summary: what `results.summarise` says of it.
      read: reads a distilled image.
      photo: finds the source photo of a distilled image.
      photo_note: why photos are missing, "" where none is.
      most_classes: at most so many classes are shown.
    """
    timeline = build_timeline(record.schedule)
    gallery = build_gallery(record.images, read, photo, most_classes)
    rounds = timeline.rounds if timeline else 1
    rounds = max([rounds, *(image.join_round + 1 for image in record.images)])
    headline_labels = next((kind for kind in KINDS if summary[KINDS[kind]]), "soft")
    students = summary[KINDS[headline_labels]]
    headline_student, headline_sets = next(iter(students.items()), (None, {}))
    evaluations = record.evaluations_with(headline_labels)
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            title=_title(summary),
            summary=summary,
            record=record,
            headline_student=headline_student,
            headline_labels=headline_labels,
            headline_sets=headline_sets,
            headline=_headline(summary, headline_labels),
            diversity_verdict=wording.diversity_verdict(summary["diversity"]),
            set_order=results.SET_ORDER,
            colours=join_round_colours(rounds),
            timeline=timeline,
            timeline_examples=_examples(gallery, timeline),
            thumbnail=THUMBNAIL,
            gallery=gallery,
            synthesised=record.schedule.get("iterations") != 0,
            photo_note=photo_note,
            accuracy=charts.accuracy_plot(students, summary["teacher"]["top1"]),
            learning=charts.learning_curves(evaluations),
            by_class=_by_class(evaluations),
            diversity=charts.diversity_plot(record.diversity, list(summary["diversity"])),
            class_curves=charts.class_curves(record.diversity, list(summary["diversity"])),
            continual=charts.continual_curves(summary["continual"]),
            continual_argmax=config_value(record.config, "continual.argmax", "all"),
            losses=charts.loss_panels(record.metrics, record.schedule),
            paces=charts.paces(record.schedule),
            config_json=strict_json.dumps(
                record.config, indent=2, ensure_ascii=False, sort_keys=True
            ),
            recipe=config_value(record.teacher, "recipe", {}),
        )
    )


def environment() -> jinja2.Environment:
    """The templates, with the filters that they use and what every page says."""
    loader = jinja2.PackageLoader("delt_jax.report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,  # class names, file names and the config are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "mean": statistics.fmean,
        "duration": wording.duration,
        "percent": wording.percent,
        "plain": _plain,
        "points": wording.points,
        "runs": _runs,
        "set_label": lambda name: wording.set_label(name).removeprefix("the "),
        "set_short": wording.set_short,
        "sig": wording.significant,
        "signed": wording.signed,
    }
    environment.globals |= {
        "inline": lambda name: markupsafe.Markup(
            loader.get_source(environment, name)[0]  # our own style sheet and script
        ),
        "confidence": CONFIDENCE,
        "written": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return environment


def _plain(value: Any) -> str:
    """A JSON value as text."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else strict_json.dumps(value, ensure_ascii=False)


def _title(summary: dict[str, Any]) -> str:
    method = named(_NAMES.get(summary["method"], summary["method"]), summary["method_changes"])
    ipc = summary["ipc"]
    return f"{method} on {summary['data']['name']}, {ipc} image{'' if ipc == 1 else 's'} per class"


def _headline(summary: dict[str, Any], labels: str) -> list[str]:
    """What is found and what is shown for the first student; empty where there is none.

    Args:
      summary: of the run.
      labels: what the student learned, a key of `results.KINDS`.
    """
    taught = "" if labels == "soft" else f" with {labels} labels"
    for student, sets in summary[KINDS[labels]].items():
        if "distilled" in sets:
            ours = sets["distilled"]
            top1 = f"{wording.points(ours['top1_mean'], ours['top1_std'])} %".replace(" ", "\u00a0")
            trained = f"The student {student}, trained on the distilled images{taught}"
            reached = f"{trained}, reaches {top1} top-1."
            compared = [
                c
                for c in summary["comparisons"]
                if (c["student"], c["labels"]) == (student, labels)
            ]
            return [reached, *wording.verdict(sets, compared)]
    return []


def _by_class(evaluations: tuple[Evaluation, ...]) -> dict[str, Any]:
    """Top-1 of each class by student and set, means over seeds."""
    measured = [e for e in evaluations if e.per_class and e.class_names]
    if not measured:
        return {}
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for evaluation in measured:
        groups.setdefault((evaluation.student, evaluation.set), []).append(evaluation)
    means = []
    for group in groups.values():
        columns = zip(*(e.per_class for e in group), strict=True)
        means.append([None if None in column else statistics.fmean(column) for column in columns])
    order = sorted(
        groups, key=lambda key: (key[0], results.in_order([s for _, s in groups]).index(key[1]))
    )
    by_key = dict(zip(groups, means, strict=True))
    rows = zip(measured[0].class_names, *(by_key[key] for key in order), strict=True)
    return {"columns": order, "rows": list(rows)}


def _examples(gallery: Gallery, timeline: Timeline | None) -> dict[str, Any]:
    """The class whose images illustrate the schedule: a middle one, with a photo for every rank."""
    if timeline is None or not timeline.thumbnails:
        return {}
    complete = [row for row in gallery.rows if all(row.cells)]
    with_photos = [row for row in complete if all(c and c.source_uri for c in row.cells)]
    candidates = with_photos or complete
    if not candidates:
        return {}
    chosen = candidates[len(candidates) // 2]
    ranks = {column.rank: cell for column, cell in zip(gallery.columns, chosen.cells, strict=True)}
    return {"class_name": chosen.class_name, "cells": ranks}


def _runs(columns: tuple[Column, ...]) -> list[tuple[int | None, list[Column]]]:
    """Neighbouring columns of the same join round, together."""
    groups = itertools.groupby(columns, key=lambda column: (column.round, column.iterations))
    return [(round_index, list(group)) for (round_index, _), group in groups]
