"""
Blocks, code spans, tables and links of the Markdown pages, and the marks of blocks.

A mark is an HTML comment on the line before a block, which is invisible on the site:

- `<!-- needs: gpu -->`: the block is not executed, for a reason of `REASONS`.
- `<!-- needs: gui (recipes/demo.py), network (pip) -->`: lines of the block that contain the text in parentheses are
  not executed.
- `<!-- tested: tests/export/test_concept_exits.py -->`: the block is executed by this test.
- `<!-- file: names.yaml -->`: the block is the content of this file, which the commands of the page read.
- `<!-- setup: CODE -->`: Python code that is executed before the block, for variables that the page does not define.
"""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt


ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "recipes/README.md"] + [
    page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").glob("*.md"))
]
REASONS = {
    "gpu": "one or several CUDA GPUs, or the full-size weights",
    "network": "a download, an upload or a server",
    "cluster": "SLURM, a Ray cluster, or several machines",
    "label-studio": "a Label Studio server",
    "docker": "Docker",
    "gui": "a window or a browser",
}
_MARK = re.compile(r"<!--\s*(needs|tested|file|setup):\s*(.*?)\s*-->\s*", re.DOTALL)
_REASON = re.compile(r"([\w-]+)(?: \(([^)]*)\))?(?:, |$)")


@dataclass
class Block:
    """
    Fenced block of a page.

    Attributes:
        page (`str`): Page, relative to the root of the repository.
        line (`int`): Number of the fence's line, from 1.
        language (`str`): Language after the fence, or an empty string.
        indent (`int`, *optional*): Spaces before the fence of a block in a list; `None` outside of lists.
        text (`str`): Content.
        reasons (`dict[str, str]`): Reason of a mark `needs` by the text that its lines contain; the text is empty for
            the whole block.
        marks (`dict[str, str]`): Other marks by their names.
    """

    page: str
    line: int
    language: str
    indent: int | None
    text: str
    reasons: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    def find_reason(self, line: str) -> str | None:
        """Return the reason for which a line of the block is not executed, or `None`."""
        return next((reason for text, reason in self.reasons.items() if text in line), None)


@functools.cache
def read_tokens(page: str) -> tuple:
    """Parse a page into the flat list of its Markdown tokens."""
    parser = MarkdownIt("commonmark").enable("table")
    return tuple(parser.parse((ROOT / page).read_text(encoding="utf-8")))


def read_blocks(page: str, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in these languages, or in all of them, with their marks."""
    blocks, comment = [], ""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    for token in read_tokens(page):
        if token.type == "html_block":
            comment = token.content
        elif token.type == "fence":
            line = lines[token.map[0]]
            indent = len(line) - len(line.lstrip()) if token.level else None
            block = Block(page, token.map[0] + 1, token.info.strip(), indent, token.content)
            for kind, value in _MARK.findall(comment):
                if kind == "needs":
                    block.reasons |= {text: reason for reason, text in _REASON.findall(value)}
                else:
                    block.marks[kind] = value
            blocks.append(block)
            comment = ""
        elif token.type in ("inline", "heading_open"):
            comment = ""
    return [block for block in blocks if not languages or block.language in languages]


def read_code_spans(page: str) -> list[str]:
    """Return the code spans of a page."""
    return [child.content for child in _read_inline(page) if child.type == "code_inline"]


def read_links(page: str) -> list[str]:
    """Return the targets of links and images of a page."""
    targets = [child.attrGet("href") or child.attrGet("src") for child in _read_inline(page)]
    return [target for target in targets if target]


def read_anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings."""
    tokens = read_tokens(page)
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def read_first_cells(page: str, *headers: str) -> list:
    """Return the tokens of the first column of the tables whose first header is one of `headers`."""
    cells, column, title, is_head = [], 0, "", False
    for token in read_tokens(page):
        if token.type in ("tr_open", "thead_open", "thead_close"):
            column, is_head = 0, {"thead_open": True, "thead_close": False}.get(token.type, is_head)
        elif token.type in ("th_open", "td_open"):
            column += 1
        elif token.type == "inline" and column == 1:
            if is_head:
                title = token.content
            elif title in headers:
                cells.append(token)
        elif token.type == "table_close":
            column, title = 0, ""
    return cells


def _read_inline(page: str):
    return (child for token in read_tokens(page) if token.type == "inline" for child in token.children)
