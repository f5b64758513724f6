"""Bar and line charts: their geometry, which templates draw as inline SVG, and stand-alone SVG files."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .template_rendering import render_template


# Readable on white and on the dark background of pages: a contrast of at least 3 to both.
COLORS = ("#4c6ef5", "#e8590c", "#2b8a3e", "#ae3ec9", "#d6336c", "#0c8599", "#845ef7", "#967259")
MAX_POINTS = 300  # of a line; more are averaged in groups
_MAX_DOTS = 30  # points of a line that are drawn as dots, too
_PLOT = {"left": 52, "right": 350, "top": 34, "bottom": 176, "width": 364, "height": 212}  # px of a line chart
_LEFT, _TOP, _PLOT_HEIGHT, _BAR, _GAP = 8, 38, 110, 18, 10  # px
_MIN_WIDTH, _LEGEND_HEIGHT = 300, 24


@dataclass
class Series:
    """
    Values of one colour.

    Attributes:
        name (`str`): Name in the legend and in tooltips.
        color (`str`): CSS colour.
        values (`list[int]`): One value for each label of the chart.
    """

    name: str
    color: str
    values: list[int]


def column_chart(title: str, unit: str, labels: list[str], series: list[Series], warned: Iterable[int] = ()) -> dict:
    """
    Compute a chart of grouped columns.

    Args:
        title (`str`): Title of the chart.
        unit (`str`): Unit of the values, for tooltips.
        labels (`list[str]`): Label of each group of columns.
        series (`list[Series]`): Values of each column of a group.
        warned (`Iterable[int]`): Groups whose labels are red.

    Returns:
        `dict`: Size, title, bars and labels of the chart, px, for the macro `columns`.
    """
    warned = set(warned)
    highest = max((value for one in series for value in one.values), default=0)
    step = max(len(series) * _BAR + _GAP, max((len(label) for label in labels), default=1) * 6 + _GAP)
    bars, texts = [], []
    for i, label in enumerate(labels):
        x = _LEFT + i * step + (step - len(series) * _BAR) / 2
        for j, one in enumerate(series):
            value = one.values[i]
            height = max(_PLOT_HEIGHT * value / max(highest, 1), 1.0 if value else 0.0)
            bars.append(
                {
                    "x": x + j * _BAR, "y": _TOP + _PLOT_HEIGHT - height, "width": _BAR - 2, "height": height,
                    "color": one.color, "value": value, "center": x + j * _BAR + _BAR / 2 - 1,
                    "tip": f"{one.name}, {label}: {value} {unit}",
                }
            )  # fmt: skip
        texts.append({"x": _LEFT + (i + 0.5) * step, "label": label, "is_warning": i in warned})
    width = max(_LEFT * 2 + len(labels) * step, _MIN_WIDTH)
    return {
        "title": title, "width": width, "height": _TOP + _PLOT_HEIGHT + 24, "baseline": _TOP + _PLOT_HEIGHT,
        "bars": [bar for bar in bars if bar["value"]], "labels": texts,
    }  # fmt: skip


@dataclass
class Line:
    """
    Line of one colour.

    Attributes:
        name (`str`): Name in the legend.
        color (`str`): CSS colour.
        points (`list[tuple[float, float]]`): Positions and values, by rising position.
    """

    name: str
    color: str
    points: list[tuple[float, float]]


def line_chart(title: str, x_title: str, lines: list[Line], limits: tuple[float, float] | None = None) -> dict:
    """
    Compute a chart of lines.

    Args:
        title (`str`): Title of the chart.
        x_title (`str`): Title of the horizontal axis.
        lines (`list[Line]`): Lines with at least one point each.
        limits (`tuple[float, float]`, *optional*): Range of the vertical axis; by default from 0, or the lowest value,
            to the highest.

    Returns:
        `dict`: Size, titles, description, ticks and lines of the chart, px, for the macro `line_plot`.
    """
    values = [value for line in lines for _, value in line.points]
    low, high = limits or (min(0.0, *values), max(values))
    ticks_y = _choose_ticks(low, high)
    low, high = min(low, ticks_y[0]), max(high, ticks_y[-1])
    positions = [x for line in lines for x, _ in line.points]
    first, last = min(0.0, *positions), max(positions)
    ticks_x = [x for x in _choose_ticks(first, last) if x <= last]

    def to_x(value: float) -> float:
        return _PLOT["left"] + (_PLOT["right"] - _PLOT["left"]) * (value - first) / ((last - first) or 1)

    def to_y(value: float) -> float:
        return _PLOT["bottom"] - (_PLOT["bottom"] - _PLOT["top"]) * (value - low) / ((high - low) or 1)

    drawn = []
    for line in lines:
        points = [(round(to_x(x), 1), round(to_y(y), 1)) for x, y in _average(line.points)]
        dots = points if len(points) <= _MAX_DOTS else []
        drawn.append({"name": line.name, "color": line.color, "points": points, "dots": dots})
    ranges = [f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines]
    return {
        **_PLOT, "title": title, "x_title": x_title, "lines": drawn, "description": f"{title}: {'; '.join(ranges)}",
        "ticks_x": [{"label": f"{x:g}", "at": to_x(x)} for x in ticks_x],
        "ticks_y": [{"label": f"{y:.3g}", "at": to_y(y)} for y in ticks_y],
    }  # fmt: skip


def _choose_ticks(low: float, high: float) -> list[float]:
    """Return round values from `low` to at least `high`, at most seven."""
    span = (high - low) or abs(high) or 1.0
    magnitude = 10 ** math.floor(math.log10(span / 4))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if span / (m * magnitude) <= 5)
    begin, end = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
    return [round(i * step, 12) for i in range(begin, end + 1)]


def _average(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average consecutive points so that at most `MAX_POINTS` remain."""
    size = math.ceil(len(points) / MAX_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def draw_charts(charts: list[dict], series: list[Series]) -> str:
    """
    Draw charts side by side, with a legend, as a stand-alone SVG file.

    Args:
        charts (`list[dict]`): Charts of [`column_chart`].
        series (`list[Series]`): Names and colours of the legend.

    Returns:
        `str`: Content of the file.
    """
    lefts, entries = [sum(chart["width"] for chart in charts[:i]) for i in range(len(charts))], []
    for one in series:
        x = entries[-1]["x"] + 6 * len(entries[-1]["name"]) + 30 if entries else _LEFT
        entries.append({"x": x, "name": one.name, "color": one.color})
    return render_template(
        "charts.html.j2",
        charts=[chart | {"left": left} for chart, left in zip(charts, lefts, strict=True)],
        legend=entries,
        width=sum(chart["width"] for chart in charts),
        top=_LEGEND_HEIGHT,
        height=_LEGEND_HEIGHT + max(chart["height"] for chart in charts),
    )
