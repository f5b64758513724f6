"""Pages of the documentation site that are made from files outside `docs/`, and their links."""

import re
from pathlib import Path

from mkdocs.structure.files import File

import sam_ft


ROOT = Path(__file__).resolve().parents[2]
# Page of the site -> Markdown file of the repository.
PAGES = {"index.md": "README.md", "recipes.md": "recipes/README.md", "contributing.md": "CONTRIBUTING.md"}
LINK = re.compile(r"(!?)\[([^\]\[]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages that are made from other files, and one page of the public classes and functions."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=resolve_links(text, Path(source).parent)))
    names = [f"::: sam_ft.{sam_ft._PUBLIC[name]}.{name}" for name in sam_ft.__all__]
    text = "# Python API\n\nEach name is imported from `sam_ft`.\n\n" + "\n\n".join(names) + "\n"
    files.append(File.generated(config, "api.md", content=text))
    return files


def on_page_markdown(markdown, page, **_):
    """Resolve the links of a page of `docs/`; those of generated pages are resolved already."""
    return markdown if page.file.src_uri in (*PAGES, "api.md") else resolve_links(markdown, Path("docs"))


def on_page_content(html, page, **_):
    """Render types and references of docstrings, whose markup is that of Transformers, without its marks."""
    if page.file.src_uri != "api.md":
        return html
    html = re.sub(r"<code>`([^`]*)`(, \*optional\*)?</code>", _render_type, html)
    return re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html)


def _render_type(match: re.Match) -> str:
    return f"<code>{match[1]}</code>{', optional' if match[2] else ''}"


def resolve_links(text: str, folder: Path) -> str:
    """
    Replace links to files of the repository: by links to their pages, or by their text if they have none.

    Args:
        text (`str`): Markdown.
        folder (`Path`): Folder of the page, relative to the root of the repository.
    """

    def resolve(match: re.Match) -> str:
        image, title, target, anchor = match[1], match[2], match[3], match[4] or ""
        if target.startswith(("http:", "https:", "mailto:")):
            return match[0]
        file = (ROOT / folder / target).resolve().relative_to(ROOT)
        pages = {source: page for page, source in PAGES.items()}
        if file.as_posix() in pages:
            return f"{image}[{title}]({pages[file.as_posix()]}{anchor})"
        if file.parts[0] == "docs":
            return f"{image}[{title}]({file.relative_to('docs').as_posix()}{anchor})"
        return title

    return LINK.sub(resolve, text)
