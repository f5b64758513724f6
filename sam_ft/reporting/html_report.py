"""HTML report in one self-contained file: tables, precision-recall curves, bars and pictures."""

import base64
import html
import io
from collections.abc import Iterable

from PIL import Image

from .metric_table import ROWS, Column, ap50_of, best_of, exists, phrases_of, rows_of


COLORS = ("#4c6ef5", "#e8590c", "#2b8a3e", "#9c36b5", "#c2255c", "#0b7285", "#5f3dc4", "#846358")
MAX_CURVES = 12  # phrases with a plot
MAX_PHRASES = 200  # rows of the phrase table


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
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        *(_notes(column) for column in columns if column.notes),
        "<h2>Metrics</h2>",
        _table(columns),
        '<p class="hint">Small: 95&nbsp;% interval over images. Δ: difference from the first column on the same '
        "images; bold if its interval excludes zero. Green: best value of a row.</p>",
        "<h2>Precision and recall at IoU 0.5</h2>",
        _legend(columns),
        _curves(columns),
        "<h2>Phrases</h2>",
        _phrases(columns),
        *(_pictures(heading, items) for heading, items in pictures.items() if items),
        "<footer>" + "".join(f"<p>{html.escape(line)}</p>" for line in footer) + "</footer>",
    ]
    return _PAGE.format(title=html.escape(title), style=_STYLE, body="\n".join(parts))


def _notes(column: Column) -> str:
    head, *rest = column.notes
    style = "bad" if head.isupper() or head.split(":")[0].isupper() else "good"
    items = "".join(f"<li>{html.escape(note.strip())}</li>" for note in rest)
    return f'<div class="note {style}"><b>{html.escape(column.name)}: {html.escape(head)}</b><ul>{items}</ul></div>'


def _table(columns: list[Column]) -> str:
    head = "".join(
        f'<th><i style="background:{_color(i)}"></i>{html.escape(c.name)}</th>' for i, c in enumerate(columns)
    )
    lines = []
    for name in rows_of(columns):
        best = best_of(name, columns)
        cells = "".join(
            f'<td class="{"best" if i in best else ""}">{_cell(c, name)}</td>' for i, c in enumerate(columns)
        )
        lines.append(f"<tr><th>{html.escape(ROWS[name])}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table class="numbers"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(column: Column, name: str) -> str:
    value = column.metrics.get(name)
    if not exists(value):
        return "–"
    text = f"{value:.3f}"
    if name in column.intervals:
        low, high = column.intervals[name]
        text += f" <small>{low:.3f}–{high:.3f}</small>"
    if name in column.differences:
        difference, low, high = column.differences[name]
        is_significant = low > 0 or high < 0
        style = "sure" if is_significant else ""
        text += f'<br><small class="{style}">Δ {difference:+.3f} ({low:+.3f} to {high:+.3f})</small>'
    return text


def _legend(columns: list[Column]) -> str:
    return (
        '<p class="legend">'
        + "".join(
            f'<span><i style="background:{_color(i)}"></i>{html.escape(column.name)}</span>'
            for i, column in enumerate(columns)
        )
        + "</p>"
    )


def _curves(columns: list[Column]) -> str:
    """Plot the mean curve over all phrases, then the curves of the most frequent phrases."""
    means = [_mean_curve(list(column.curves.values())) for column in columns]
    plots = [_plot("all phrases, mean", means)]
    phrases = [phrase for phrase in phrases_of(columns) if any(phrase in column.curves for column in columns)]
    plots += [_plot(phrase, [column.curves.get(phrase) for column in columns]) for phrase in phrases[:MAX_CURVES]]
    more = (
        f'<p class="hint">{len(phrases) - MAX_CURVES} more phrases have curves in the JSON.</p>'
        if len(phrases) > MAX_CURVES
        else ""
    )
    return f'<div class="plots">{"".join(plots)}</div>{more}'


def _plot(title: str, curves: list[list[float] | None]) -> str:
    side, left, top = 180, 30, 22
    grid = "".join(
        f'<line x1="{left}" x2="{left + side}" y1="{top + side * (1 - v)}" y2="{top + side * (1 - v)}"/>'
        f'<text x="{left - 5}" y="{top + side * (1 - v) + 4}" text-anchor="end">{v:g}</text>'
        f'<text x="{left + side * v}" y="{top + side + 14}" text-anchor="middle">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    lines = ""
    for i, curve in enumerate(curves):
        if curve:
            points = " ".join(
                f"{left + side * r / 100:.1f},{top + side * (1 - max(p, 0)):.1f}" for r, p in enumerate(curve)
            )
            lines += f'<polyline points="{points}" stroke="{_color(i)}"/>'
    return (
        f'<svg viewBox="0 0 {side + left + 14} {side + top + 34}" width="{side + left + 14}" role="img">'
        f'<text class="title" x="{left}" y="14">{html.escape(_shorten(title, 30))}</text>{grid}{lines}'
        f'<text x="{left + side / 2}" y="{top + side + 29}" text-anchor="middle">recall → , precision ↑</text></svg>'
    )


def _phrases(columns: list[Column]) -> str:
    lines, phrases = [], phrases_of(columns)
    for phrase in phrases[:MAX_PHRASES]:
        first = next(c.phrases[phrase] for c in columns if phrase in c.phrases)
        bars = ""
        for i, column in enumerate(columns):
            score = ap50_of(column.phrases.get(phrase, {}))
            if score is not None:
                width = 100 * max(score, 0)
                bar = f'<i style="width:{width:.1f}%;background:{_color(i)}"></i><span>{score:.2f}</span>'
                bars += f'<div class="bar">{bar}</div>'
        lines.append(
            f"<tr><th>{html.escape(phrase)}</th><td>{first.get('images', 0)}</td><td>{first.get('instances', 0)}</td>"
            f'<td>{first.get("absent", 0)}</td><td class="bars">{bars}</td></tr>'
        )
    more = (
        f'<p class="hint">{len(phrases) - MAX_PHRASES} more phrases are in the JSON.</p>'
        if len(phrases) > MAX_PHRASES
        else ""
    )
    head = "<tr><th>phrase</th><th>images</th><th>instances</th><th>absent in</th><th>AP50</th></tr>"
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div>{more}'


def _pictures(heading: str, items: list[tuple[str, Image.Image]]) -> str:
    figures = "".join(
        f'<figure><img src="{_to_data_url(image)}" alt="{html.escape(caption, quote=True)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, image in items
    )
    return f"<h2>{html.escape(heading)}</h2>{figures}"


def _to_data_url(image: Image.Image) -> str:
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


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
  background: #fafaf8; color: #222 }
h1 { font-size: 1.6rem }
h2 { margin-top: 2.2rem; font-size: 1.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem }
table { border-collapse: collapse; background: white } .wide { overflow-x: auto }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #eee; text-align: right; vertical-align: top;
  font-weight: normal }
tbody th, thead th:first-child { text-align: left } thead th { font-weight: 600; background: #f1f0ec }
small { color: #777 } small.sure { color: #111; font-weight: 600 } td.best { background: #e6f4e6 }
th i, .legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em }
.legend span { margin-right: 1.4em } .hint { color: #666; font-size: .9em }
.note { border-left: 4px solid; padding: .6rem 1rem; margin: 1rem 0; background: white }
.note ul { margin: .3rem 0 0; list-style: none; padding: 0 }
.bad { border-color: #c92a2a } .bad b { color: #c92a2a } .good { border-color: #2b8a3e }
.plots { display: flex; flex-wrap: wrap; gap: .8rem }
svg { background: white; border: 1px solid #eee; border-radius: 4px }
svg text { font-size: 10px; fill: #555 } svg text.title { font-size: 12px; fill: #111 } svg line { stroke: #e3e3e3 }
svg polyline { fill: none; stroke-width: 1.8 }
td.bars { min-width: 280px }
.bar { position: relative; height: 16px; background: #f3f3f0; margin: 1px 0; text-align: left }
.bar i { position: absolute; inset: 0 auto 0 0; opacity: .75 }
.bar span { position: relative; padding-left: 4px; font-size: 11px }
figure { margin: 1rem 0; background: white; padding: .6rem; border: 1px solid #eee; border-radius: 4px }
img { max-width: 100% }
figcaption { color: #555; font-size: .9em; overflow-wrap: anywhere }
footer { margin-top: 3rem; color: #777; font-size: .85em }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style></head>
<body>
{body}
</body></html>
"""
