"""
Fine-tune SAM 3 on phrases and masks.

    accelerate launch --quiet recipes/sam3_ft.py                        # the embedded default: a tiny model learns new shapes
    accelerate launch --quiet recipes/sam3_ft.py --config recipes/configs/sam3_full_24gb.yaml --dataset_name path/to/coco
    accelerate launch --quiet recipes/sam3_ft.py --config … --dry_run   # every stage once, on whatever device there is

Keys: `--help`. A second run with the same `output_dir` resumes the first. What a run does, stage by stage: sam_ft/commands/finetune.py.
"""

from pathlib import Path

from sam_ft.arguments import SAM3_ARGUMENTS, Run
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


DEFAULT = Path(__file__).parent / "configs" / "demo.yaml"


def make_parser() -> RecipeParser:
    return RecipeParser(SAM3_ARGUMENTS)


def run(arguments: list[str] | None = None):
    """Parses and runs; without any argument the embedded default."""
    with stage("config"):
        given = make_parser().parse(arguments, DEFAULT)

    from sam_ft.commands.finetune import fine_tune

    fine_tune(Run(*given))


if __name__ == "__main__":
    with as_program():
        run()
