"""Markdown tables of the GPU report's JSON lines."""

from collections.abc import Iterable


HIDDEN = {"lines", "by line"}  # values that are too long for a table


def format_report(lines: Iterable[dict]) -> str:
    """Format the lines of a report as Markdown: one table of each group, and the cells that failed.

    Args:
        lines (`Iterable[dict]`): Lines with `group`, `cell`, and `result` or `error`.
    """
    groups, failed = {}, []
    for line in lines:
        if "error" in line:
            failed.append([line["cell"], line["error"]])
        else:
            groups.setdefault(line["group"], []).append(line)
    parts = [f"## {group}\n\n{_format_group(cells)}" for group, cells in groups.items()]
    if failed:
        parts.append(f"## Cells without a result\n\n{format_table(['cell', 'error'], failed)}")
    return "\n".join(parts)


def format_table(header: list[str], rows: list[list]) -> str:
    """Format rows as a Markdown table.

    Args:
        header (`list[str]`): Names of the columns.
        rows (`list[list]`): Values of each row; `None` is an empty cell.
    """
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_format_value(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _format_group(lines: list[dict]) -> str:
    """Format the results of a group. Cells with other columns than their predecessor begin another table."""
    tables, columns = [], None
    for line in lines:
        names = [name for name in line["result"] if name not in HIDDEN]
        if columns is None or not set(names) & set(columns):
            columns, rows = [], []
            tables.append((columns, rows))
        columns += [name for name in names if name not in columns]
        rows.append(line)
    texts = []
    for columns, rows in tables:
        values = [[row["cell"], *(row["result"].get(name) for name in columns), row["wall"]] for row in rows]
        texts.append(format_table(["cell", *columns, "wall s"], values))
    return "\n".join(texts)


def _format_value(value) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format_value(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_format_value, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
