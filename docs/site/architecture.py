"""
Picture of the architecture, from the imports of the code: `python docs/site/architecture.py` writes the SVG file.

A package is drawn above all packages that it imports. An arrow is left out where a chain of other arrows leads from
the one package to the other, and `options` and `utils`, which almost all import, have none.
"""

import sys
from html import escape
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.test_layering import FILES, PACKAGE, imported  # noqa: E402


PICTURE = ROOT / "docs" / "images" / "architecture.svg"
BASE = ("options", "utils")
# Center of each package, px; a new package is placed at the right end.
CENTERS = {
    "commands": 280, "planning": 60, "export": 170, "training": 280, "arguments": 390, "inference": 500,
    "optim": 270, "evaluation": 400, "models": 170, "reporting": 450, "losses": 100, "data": 290, "metrics": 450,
    "ops": 280,
}  # fmt: skip
# Stages of the data: what it is there, and the modules that make it.
STAGES = [
    ("annotation files, Hub data sets", "data/readers, data/hub"),
    ("rows: image, instances, phrases", "data/loading.py, data/row_schema.py"),
    ("samples: augmented, phrases sampled", "data/samples/pipeline.py"),
    ("batch: images, phrases, (image, phrase) pairs", "data/samples/collators.py"),
    ("queries: scores, boxes, masks", "models/sam3/model.py"),
    ("assignment of queries, losses", "losses/matcher.py, losses/sam3.py"),
    ("weights, adapter or concepts", "training/sam3_trainer.py"),
    ("detections, metrics, report", "training/evaluator.py, reporting"),
    ("predictions, exports", "inference, export"),
]
WIDTH, BOX, HEIGHT, ROW, TOP = 560, 102, 34, 78, 16  # px
STYLE = """
text { font: 16px system-ui, sans-serif; fill: #1a1b1e } .small { font-size: 14px; fill: #555 }
.module { font: 13px ui-monospace, monospace; fill: #364fc7 } rect { fill: #dbe4ff; stroke: #4c6ef5 }
.base { fill: #f1f3f5; stroke: #adb5bd } .page { fill: #fff; stroke: none }
path { fill: none; stroke: #4c6ef5 } .head { fill: #4c6ef5; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e9ecef } .small { fill: #adb5bd } .module { fill: #bac8ff } rect { fill: #1d2b53; stroke: #748ffc }
.base { fill: #2c2e33; stroke: #868e96 } .page { fill: #1a1b1e } path { stroke: #748ffc } .head { fill: #748ffc } }
""".strip()


def read_imports() -> dict[str, set[str]]:
    """Return the packages that each package imports, `BASE` left out."""
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")} - set(BASE)
    imports = {package: set() for package in packages}
    for file in FILES:
        package = file.relative_to(PACKAGE).parts[0]
        if package in packages:
            names = {module.split(".")[1] for module, _ in imported(file) if module.startswith("sam_ft.")}
            imports[package] |= names & packages - {package}
    return imports


def find_reachable(imports: dict[str, set[str]], package: str) -> set[str]:
    """Return all packages that a package imports, directly or through others."""
    return imports[package].union(*(find_reachable(imports, other) for other in imports[package]))


def reduce_imports(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Remove the imports that a chain of other imports implies."""
    return {
        package: others - set().union(*(find_reachable(imports, other) for other in others))
        for package, others in imports.items()
    }


def compute_levels(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return the row of each package, below all packages that import it."""

    def level(package: str) -> int:
        return max((level(other) + 1 for other, names in imports.items() if package in names), default=0)

    return {package: level(package) for package in imports}


def draw_box(x: float, y: float, width: float, text: str, kind: str = "") -> str:
    """Return a box with a centered text; `x` is its center."""
    return (
        f'<rect class="{kind}" x="{x - width / 2:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x:g}" y="{y + 22:g}" text-anchor="middle">{escape(text)}</text>'
    )


def draw_arrow(points: list[tuple[float, float]]) -> str:
    """Return an arrow through points, between which it is curved or, at one x, straight."""
    path = "M{:g} {:g}".format(*points[0])
    for (x, y), (end_x, end_y) in zip(points, points[1:], strict=False):
        bend = (end_y - y) / 2
        path += f"C{x:g} {y + bend:g} {end_x:g} {end_y - bend:g} {end_x:g} {end_y:g}"
    x, y = points[-1]
    return f'<path d="{path}"/><path class="head" d="M{x - 4:g} {y - 8:g}h8l-4 8z"/>'


def find_gap(x: float, centers: list[float]) -> float:
    """Return the x nearest to `x` at which no box of a row is; `centers` are those of its boxes."""
    reach = BOX / 2 + 7
    edges = [center + side for center in centers for side in (-reach, reach)]
    free = [e for e in (x, *edges) if all(abs(e - center) >= reach for center in centers)]
    return min(free, key=lambda e: abs(e - x))


def draw_packages(imports: dict[str, set[str]]) -> tuple[list[str], int]:
    """Return the drawing of the packages, and its height."""
    levels, parts = compute_levels(imports), []
    centers = {name: CENTERS.get(name, WIDTH - BOX / 2) for name in imports}
    rows = {level: [centers[name] for name in imports if levels[name] == level] for level in levels.values()}
    tops = {level: TOP + level * ROW for level in rows}
    for name, others in sorted(reduce_imports(imports).items()):
        for other in sorted(others):
            first, last, slope = levels[name], levels[other], centers[other] - centers[name]
            points = [(centers[name] + 0.12 * slope, tops[first] + HEIGHT)]
            for level in range(first + 1, last):
                x = find_gap(centers[name] + slope * (level - first) / (last - first), rows[level])
                points += [(x, tops[level]), (x, tops[level] + HEIGHT)]
            parts.append(draw_arrow([*points, (centers[other], tops[last])]))
    parts += [draw_box(centers[name], tops[levels[name]], BOX, name) for name in sorted(imports)]
    bottom = max(tops.values()) + HEIGHT + 24
    parts.append(
        draw_box(WIDTH / 2, bottom, WIDTH - 16, f"{' and '.join(BASE)}: every package may import them", "base")
    )
    return parts, bottom + HEIGHT


def draw_stages(top: int) -> tuple[list[str], int]:
    """Return the drawing of the data's way, and its end."""
    parts = []
    for number, (stage, modules) in enumerate(STAGES):
        for module in modules.split(", "):
            assert (PACKAGE / module).exists(), f"sam_ft/{module} does not exist"
        y = top + number * 62
        parts.append(f'<rect x="8" y="{y}" width="{WIDTH - 16}" height="46" rx="6"/>')
        parts.append(f'<text x="20" y="{y + 19}">{escape(stage)}</text>')
        parts.append(f'<text class="module" x="20" y="{y + 37}">{escape(modules)}</text>')
        if number:
            parts.append(draw_arrow([(WIDTH / 2, y - 16), (WIDTH / 2, y)]))
    return parts, top + len(STAGES) * 62


def draw() -> str:
    """Return the content of the SVG file."""
    packages, middle = draw_packages(read_imports())
    stages, height = draw_stages(middle + 76)
    captions = [
        f'<text class="small" x="8" y="{middle + 24}">An arrow points to a package that is imported.</text>',
        f'<text x="8" y="{middle + 62}">The way of the data in a training run</text>',
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    page = f'<rect class="page" width="{WIDTH}" height="{height}"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, *packages, *captions, *stages, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
