r"""Fine-tuning of SAM 3 on phrases and masks.

    accelerate launch --quiet recipes/sam3_ft.py                        # without arguments: the demo
    accelerate launch --quiet recipes/sam3_ft.py --config recipes/configs/sam3_full_24gb.yaml \
        --dataset_name path/to/coco
    accelerate launch --quiet recipes/sam3_ft.py --config … --dry_run   # every stage once, on any device

A second run with the same `output_dir` resumes the first. sam_ft/commands/finetune.py implements the stages of a run.
`--help` lists the keys.
"""

from pathlib import Path

from sam_ft.arguments import SAM3_ARGUMENTS, Run
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


DEFAULT = Path(__file__).parent / "configs" / "demo.yaml"


def make_parser() -> RecipeParser:
    """Build the parser of the model, data, loss and training keys."""
    return RecipeParser(SAM3_ARGUMENTS)


def run(arguments: list[str] | None = None):
    """Fine-tune SAM 3.

    Args:
        arguments (`list[str]`, *optional*): Command-line arguments, `sys.argv[1:]` by default; `demo.yaml` is the
            config where there are none.
    """
    with stage("config"):
        groups = make_parser().parse(arguments, DEFAULT)

    from sam_ft.commands.finetune import fine_tune

    fine_tune(Run(*groups))


if __name__ == "__main__":
    with as_program():
        run()
