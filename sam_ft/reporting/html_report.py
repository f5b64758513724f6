"""HTML report in one self-contained file: tables, precision-recall curves, bars and pictures."""

import base64
import io
from collections.abc import Iterable

from PIL import Image

from .metric_specs import METRICS
from .metric_table import Column, ap50_of, best_of, exists, phrases_of, rows_of
from .template_rendering import render_template


COLORS = ("#4c6ef5", "#e8590c", "#2b8a3e", "#9c36b5", "#c2255c", "#0b7285", "#5f3dc4", "#846358")
MAX_CURVES = 12  # phrases with a plot
MAX_PHRASES = 200  # rows of the phrase table
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


def as_page(
    columns: list[Column], pictures: dict[str, list[tuple[str, Image.Image]]], title: str, footer: list[str]
) -> str:
    """
    Render the report.

    Args:
        columns (`list[Column]`): Columns of the metric table.
        pictures (`dict[str, list[tuple[str, PIL.Image.Image]]]`): Captions and pictures by heading.
        title (`str`): Title of the page.
        footer (`list[str]`): Lines on the origin of the report.

    Returns:
        `str`: HTML document.
    """
    phrases = phrases_of(columns)
    with_curves = [phrase for phrase in phrases if any(phrase in column.curves for column in columns)]
    return render_template(
        "report.html.j2",
        title=title,
        notes=[_notes(column) for column in columns if column.notes],
        columns=[{"name": column.name, "color": _color(i)} for i, column in enumerate(columns)],
        table=[_line(name, columns) for name in rows_of(columns)],
        frame=_FRAME,
        plots=_plots(columns, with_curves[:MAX_CURVES]),
        more_curves=max(len(with_curves) - MAX_CURVES, 0),
        phrases=[_phrase(phrase, columns) for phrase in phrases[:MAX_PHRASES]],
        more_phrases=max(len(phrases) - MAX_PHRASES, 0),
        pictures=[_pictures(heading, items) for heading, items in pictures.items() if items],
        footer=footer,
    )


def _notes(column: Column) -> dict:
    head, *rest = column.notes
    is_warning = head.isupper() or head.split(":")[0].isupper()
    return {
        "column": column.name, "head": head, "items": [note.strip() for note in rest], "is_warning": is_warning,
    }  # fmt: skip


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
    """Return the plot of the mean curve over all phrases, then those of the phrases."""
    means = [_mean_curve(column.curves.values()) for column in columns]
    plots = [_plot("all phrases, mean", means)]
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


def _phrase(phrase: str, columns: list[Column]) -> dict:
    """Return counts and AP50 bars of a line of the phrase table."""
    first = next(column.phrases[phrase] for column in columns if phrase in column.phrases)
    bars = []
    for i, column in enumerate(columns):
        score = ap50_of(column.phrases.get(phrase, {}))
        if score is not None:
            bars.append({"score": score, "width": 100 * max(score, 0), "color": _color(i)})
    return {"text": phrase, "bars": bars, **{name: first.get(name, 0) for name in ("images", "instances", "absent")}}


def _pictures(heading: str, items: list[tuple[str, Image.Image]]) -> dict:
    figures = [{"url": to_data_url(image), "caption": caption} for caption, image in items]
    return {"heading": heading, "figures": figures}


def to_data_url(image: Image.Image) -> str:
    """Encode a picture as the JPEG data URL of an `img` element."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _mean_curve(curves: Iterable[list[float]]) -> list[float] | None:
    curves = list(curves)
    return [sum(values) / len(values) for values in zip(*curves, strict=True)] if curves else None


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
