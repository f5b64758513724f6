"""Rendering of the Jinja2 templates of reports and cards."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..utils.text import count_noun


def render_template(template: str, /, **values) -> str:
    """
    Render a template; in HTML templates, values are escaped.

    Args:
        template (`str`): File name in `templates/`.
        values: Variables of the template.

    Returns:
        `str`: Text of the document.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sam_ft.reporting"),
        autoescape=lambda template: template is None or template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count_noun"] = count_noun
    return environment
