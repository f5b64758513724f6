"""Bar charts: their geometry, which templates draw as inline SVG, and stand-alone SVG files."""

from collections.abc import Iterable
from dataclasses import dataclass

from .template_rendering import render_template


WARNING_COLOR = "#c92a2a"
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


def css_color(color: tuple[int, int, int]) -> str:
    """Return an RGB colour as CSS, such as `#ff8000`."""
    return "#{:02x}{:02x}{:02x}".format(*color)
