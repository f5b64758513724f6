r"""Evaluation of SAM 2: IoU after 1 to n clicks and after a box; one model, or several side by side, SAM 3 included.

    accelerate launch --quiet recipes/sam2_eval.py --config recipes/configs/sam2_smoke.yaml \
        --model_name_or_path out/sam2-smoke --output_dir out/score
    accelerate launch --quiet recipes/sam2_eval.py --config … --model_name_or_path out/mine \
        --compare base=facebook/sam2.1-hiera-tiny sam3=facebook/sam3
    accelerate launch --quiet recipes/sam2_eval.py --config … --model_name_or_path out/mine \
        --compare boxes=out/mine#box clicks=out/mine#point

The keys and YAML files are those of sam2_ft.py; training keys have no effect. The command writes `report.html`,
`report.md` and `report.json` to `--output_dir`, by default `out/eval/NAME` of the model, and results, ground truth,
objects and pictures of each model below it. The `output_dir` of a YAML file is not used.
"""

from sam_ft.arguments import SAM2_ARGUMENTS, EvalArguments, Run
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program


def make_parser() -> RecipeParser:
    """Build the parser of the keys of training and of evaluation."""
    return RecipeParser((*SAM2_ARGUMENTS, EvalArguments))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Score the model and the models it is compared with.

    Args:
        arguments (`list[str]`, *optional*): Command-line arguments, `sys.argv[1:]` by default.

    Returns:
        `dict[str, float]`: Metrics of the model, prefixed `eval_`.
    """
    parser = make_parser()
    *groups, eval_args = parser.parse(arguments)
    # The `output_dir` of a YAML file belongs to the training run.
    output_dir = groups[-1].output_dir if "output_dir" in parser.given else None

    from sam_ft.commands.evaluate import score_models

    return score_models(Run(*groups), eval_args, output_dir)


if __name__ == "__main__":
    with as_program():
        main()
