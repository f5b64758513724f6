"""HTML report in one self-contained file: headline, pictures, curves and tables."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .charts import COLORS
from .comparisons import Comparison
from .figures import PhraseColors, to_figure
from .headline import build_headline
from .metric_specs import METRICS
from .metric_table import Column, ap50_of, best_of, exists, lead_metric_of, phrases_of, rows_of
from .template_rendering import render_template
from .training_curves import build_training_charts


MAX_CURVES = 12  # phrases with a plot
MAX_PHRASES = 200  # rows of the phrase table
MAX_OPEN = 2  # pictures of a kind that are not folded
_SIDE, _LEFT, _TOP = 180, 30, 22  # px of a plot
_FRAME = {
    "width": _SIDE + _LEFT + 14,
    "height": _SIDE + _TOP + 34,
    "left": _LEFT,
    "right": _LEFT + _SIDE,
    "center": _LEFT + _SIDE / 2,
    "bottom": _TOP + _SIDE,
    "ticks": [{"label": f"{v:g}", "x": _LEFT + _SIDE * v, "y": _TOP + _SIDE * (1 - v)} for v in (0, 0.5, 1)],
}


@dataclass
class RunDetails:
    """
    Facts of a run that its report contains beside the evaluations.

    Attributes:
        history (`list[dict]`): Entries of the Trainer's `state.log_history`.
        unchanged_pairs (`int`, *optional*): Number of (image, phrase) pairs of other phrases if all their outputs are
            equal before and after training.
        warnings (`list[str]`): Notes that come first.
    """

    history: list[dict] = field(default_factory=list)
    unchanged_pairs: int | None = None
    warnings: list[str] = field(default_factory=list)


def as_page(
    columns: list[Column],
    pictures: dict[str, list[Comparison]],
    title: str,
    footer: list[str],
    *,
    phrases: Iterable[str] = (),
    subtitle: str = "",
    run: RunDetails | None = None,
) -> str:
    """
    Render the report.

    Args:
        columns (`list[Column]`): Columns of the metric table.
        pictures (`dict[str, list[Comparison]]`): Panels of images by heading.
        title (`str`): Title of the page.
        footer (`list[str]`): Lines on the origin of the report.
        phrases (`Iterable[str]`): All phrases of the data, which define the colours of the pictures.
        subtitle (`str`): Line below the title.
        run (`RunDetails`, *optional*): Facts of the run, if the columns are those of a run.

    Returns:
        `str`: HTML document.
    """
    shown = phrases_of(columns)
    colors = PhraseColors(list(dict.fromkeys([*phrases, *shown])))
    with_curves = [phrase for phrase in shown if any(phrase in column.curves for column in columns)]
    unchanged_pairs = None if run is None else run.unchanged_pairs
    return render_template(
        "report.html.j2",
        title=title,
        subtitle=subtitle,
        headline=build_headline(columns, is_run=run is not None, unchanged_pairs=unchanged_pairs),
        # The columns of a run need no name, because only the last one has notes.
        notes=[note for column in columns for note in _split_notes(column, "" if run else f"{column.name}: ")],
        columns=[{"name": column.name, "color": _color(i)} for i, column in enumerate(columns)],
        table=[_line(name, columns) for name in rows_of(columns)],
        charts=_training_charts(columns, run),
        frame=_FRAME,
        plots=_plots(columns, with_curves[:MAX_CURVES]) if with_curves else [],
        more_curves=max(len(with_curves) - MAX_CURVES, 0),
        phrases=[_phrase(phrase, columns, colors) for phrase in shown[:MAX_PHRASES]],
        more_phrases=max(len(shown) - MAX_PHRASES, 0),
        pictures=[_pictures(heading, items, colors) for heading, items in pictures.items() if items],
        num_open=MAX_OPEN,
        footer=footer,
    )


def _split_notes(column: Column, prefix: str) -> list[dict]:
    """Return the headings among the notes with a prefix, each with the indented notes below it."""
    groups: list[dict] = []
    for note in column.notes:
        if note.startswith(" ") and groups:
            groups[-1]["items"].append(note.strip())
        else:
            is_warning = note.isupper() or note.split(":")[0].isupper()
            groups.append({"head": f"{prefix}{note.strip()}", "items": [], "is_warning": is_warning})
    return groups


def _training_charts(columns: list[Column], run: RunDetails | None) -> list[dict]:
    if run is None:
        return []
    metric = lead_metric_of(columns[-1].metrics)
    before = columns[0].metrics.get(metric) if len(columns) > 1 else None
    return build_training_charts(run.history, metric, before if exists(before) else None)


def _line(name: str, columns: list[Column]) -> dict:
    """Return label, cells and indices of the best cells of a line of the metric table."""
    cells = [_cell(column, name) for column in columns]
    return {"label": METRICS[name].label, "cells": cells, "best": best_of(name, columns)}


def _cell(column: Column, name: str) -> dict | None:
    value = column.metrics.get(name)
    if not exists(value):
        return None
    difference = column.differences.get(name)
    is_significant = difference is not None and (difference[1] > 0 or difference[2] < 0)
    return {
        "value": value,
        "interval": column.intervals.get(name),
        "difference": difference,
        "is_significant": is_significant,
    }


def _plots(columns: list[Column], phrases: list[str]) -> list[dict]:
    """Return the plot of the mean curve over all phrases, then those of the phrases if there are several."""
    means = [_mean_curve(column.curves.values()) for column in columns]
    plots = [_plot("all phrases, mean", means)] if len(phrases) > 1 else []
    return plots + [_plot(phrase, [column.curves.get(phrase) for column in columns]) for phrase in phrases]


def _plot(title: str, curves: list[list[float] | None]) -> dict:
    lines = []
    for i, curve in enumerate(curves):
        if curve:
            points = " ".join(
                f"{_LEFT + _SIDE * r / 100:.1f},{_TOP + _SIDE * (1 - max(p, 0)):.1f}" for r, p in enumerate(curve)
            )
            lines.append({"points": points, "color": _color(i)})
    return {"title": _shorten(title, 30), "curves": lines}


def _phrase(phrase: str, columns: list[Column], colors: PhraseColors) -> dict:
    """Return counts and AP50 bars of a line of the phrase table."""
    first = next(column.phrases[phrase] for column in columns if phrase in column.phrases)
    bars = []
    for i, column in enumerate(columns):
        score = ap50_of(column.phrases.get(phrase, {}))
        if exists(score):
            bars.append({"name": column.name, "score": score, "width": 100 * max(score, 0), "color": _color(i)})
    counts = {name: first.get(name, 0) for name in ("images", "instances", "absent")}
    return {"text": phrase, "swatch": colors.describe(phrase)["color"], "bars": bars, **counts}


def _pictures(heading: str, items: list[Comparison], colors: PhraseColors) -> dict:
    figures = [to_figure(item.panels, item.caption, colors.list_classes(item.phrases)) for item in items]
    return {"heading": heading, "figures": figures}


def _mean_curve(curves: Iterable[list[float]]) -> list[float] | None:
    curves = list(curves)
    return [sum(values) / len(values) for values in zip(*curves, strict=True)] if curves else None


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
