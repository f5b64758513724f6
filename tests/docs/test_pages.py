"""Pages of the documentation: commands parse, keys, files, links and marks exist. `test_execution.py` runs them."""

import ast
import json
import re

import pytest
import yaml

from sam_ft.commands.program import COMMANDS

from .documented_commands import OTHER_PROGRAMS, check_line, load_recipe, read_make_targets, split_lines, split_words
from .pages import PAGES, REASONS, ROOT, read_anchors, read_blocks, read_code_spans, read_first_cells, read_links


KEYS = {name.lstrip("-") for command in COMMANDS for name in command.make_parser()._option_string_actions}
# Names in `NAME: VALUE` that are fields of data formats, and options of other programs.
FIELDS = {"background", "car", "id", "iscrowd", "isthing", "loc", "path", "train", "void"}
OTHER_OPTIONS = {
    "--allow-unmatched-labels", "--clear-existing", "--conf-threshold", "--conv-mask-to-poly", "--family", "--gpus",
    "--ipc", "--num-nodes", "--user",
}  # fmt: skip
SOURCES = [
    *sorted((ROOT / "recipes" / "configs").glob("*.yaml")),
    *sorted((ROOT / "accelerate_configs").glob("*.yaml")),
    *sorted((ROOT / "recipes").glob("*.py")),
]


def read_source_commands(file):
    """Return the launches of recipes in the comments and docstrings of a file, placeholders left out."""
    text = re.sub(r"\\\n[# ]*", "", file.read_text(encoding="utf-8"))
    return [
        match[1].split("  #")[0]
        for match in re.finditer(r"(accelerate launch [^`\n]*recipes/\w+\.py[^`\n]*)", text)
        if "…" not in match[1]
    ]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_parse(page):
    for block in read_blocks(page):
        assert block.language in ("", "bash", "python", "json", "yaml"), f"{block.name}: language {block.language}"
        for line in split_lines(block.text) if block.language == "bash" else ():
            try:
                check_line(line)
            except Exception as error:
                pytest.fail(f"{block.name}: {line}\n{error}", pytrace=False)


def test_commands_in_yaml_files_and_recipes_parse():
    lines = [(file, line) for file in SOURCES for line in read_source_commands(file)]
    assert len(lines) > 20
    for file, line in lines:
        try:
            check_line(line)
        except Exception as error:
            pytest.fail(f"{file.name}: {line}\n{error}", pytrace=False)


@pytest.mark.parametrize("page", PAGES)
def test_marks_of_a_page_apply(page):
    for block in read_blocks(page):
        assert set(block.reasons.values()) <= set(REASONS), f"{block.name}: a reason is not in {sorted(REASONS)}"
        for text in block.reasons:
            assert text in block.text, f"{block.name}: no line contains {text!r}"
        if "tested" in block.marks:
            assert page.rpartition("/")[2] in (ROOT / block.marks["tested"]).read_text(encoding="utf-8"), block.name
    comments = re.findall(r"<!--.*?-->", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    marked = sum(bool(block.reasons or block.marks) for block in read_blocks(page))
    assert len(comments) == marked, f"{page}: a mark is not directly before a block, or misspelt"


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_loads(page):
    for block in read_blocks(page):
        assert block.indent in (None, 4), f"{block.name}: a block in a list has four spaces, or the site ends the list"
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            values = yaml.safe_load(block.text)
            assert isinstance(values, dict)
            assert "file" in block.marks or values.keys() <= KEYS, f"{block.name}: {values.keys() - KEYS}"


@pytest.mark.parametrize("page", PAGES)
def test_keys_and_files_in_the_text_of_a_page_exist(page):
    for child in (child for cell in read_first_cells(page, "key") for child in cell.children):
        name = child.content.lstrip("-").partition(":")[0].partition(" ")[0]
        assert child.type != "code_inline" or name in KEYS, f"{page}: `{child.content}` is not a key"
    for span in read_code_spans(page):
        name = re.match(r"(\w+): \S", span)
        assert not name or name[1] in KEYS | FIELDS, f"{page}: `{span}` sets no key"
        for file in re.findall(r"\b(?:recipes|accelerate_configs|benchmarks|tests|sam_ft)/[\w/]+\.\w+", span):
            assert (ROOT / file).is_file(), f"{page}: {file} does not exist"
        if span.startswith("make "):
            assert span.split()[1] in read_make_targets(), f"{page}: `{span}`"
        if span.split()[0] not in OTHER_PROGRAMS and not span.startswith("python -m "):
            check_options(page, span)


def check_options(page, span):
    """Check the names of options in a code span: of its recipe or benchmark if it names one, else of any command."""
    assert "recipes/" not in span or not re.search(r"accelerate launch (?!--quiet)", span), f"{page}: `{span}`"
    script = re.match(r"(?:python |accelerate launch --quiet )?(?:(recipes|benchmarks)/)?(\w+\.py)\b", span)
    options = set(re.findall(r"(?<!\S)--[\w-]+", span)) - OTHER_OPTIONS
    if script and (ROOT / "recipes" / script[2]).is_file():
        known = load_recipe(script[2]).make_parser()._option_string_actions.keys() | {"--help"}
    elif script and (ROOT / "benchmarks" / script[2]).is_file():
        text = (ROOT / "benchmarks" / script[2]).read_text(encoding="utf-8")
        known = {option for option in options if f'"{option}"' in text}
    else:
        known = {f"--{key}" for key in KEYS} | {"--help", "--help-all", "--quiet", "--num_processes", "--config_file"}
    assert options <= known, f"{page}: `{span}` contains the unknown option {options - known}"


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_exist(page):
    for target in read_links(page):
        path, _, anchor = target.partition("#")
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target} does not exist"
        if anchor:
            name = file.resolve().relative_to(ROOT).as_posix()
            assert anchor in read_anchors(name), f"{page}: {target} has no such heading"


def test_messages_of_troubleshooting_exist():
    """Quoted messages, without code and with … for values, are those of the package."""
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "sam_ft").rglob("*.py")]
    text = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    cells = [cell.content for cell in read_first_cells("docs/troubleshooting.md", "message", "symptom")]
    quotes = [quote for cell in cells for quote in re.findall(r'"([^"]+)"', cell)]
    assert len(quotes) > 15
    for part in (part.strip() for quote in quotes for part in re.split(r"…|`[^`]*`", quote)):
        assert part in text, f"no message contains {part!r}"


def test_commands_are_split_as_a_shell_does():
    text = (
        "A=1 B='x y' python recipes/sam3_ft.py \\\n    --dataset_name 'my data'  # comment\n\n# comment\nmake demo\n"
    )
    lines = split_lines(text)
    assert [split_words(line) for line in lines] == [
        ["python", "recipes/sam3_ft.py", "--dataset_name", "my data"],
        ["make", "demo"],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "python recipes/sam3_ft.py --learning_rat 1",
        "python recipes/missing.py",
        "accelerate launch recipes/sam3_ft.py",
        "accelerate launch --quiet --num_gpus 4 recipes/sam3_ft.py",
        "sam-ft finetune --config missing",
        "make tests",
        "curl https://example.com",
    ],
)
def test_a_wrong_command_is_found(line):
    with pytest.raises((AssertionError, ValueError, OSError, SystemExit)):
        check_line(line)
