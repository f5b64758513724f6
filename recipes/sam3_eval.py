r"""Evaluation of SAM 3: one model, or several models and COCO results side by side, SAM 2 included.

    accelerate launch --quiet recipes/sam3_eval.py --config recipes/configs/demo.yaml \
        --model_name_or_path out/demo --output_dir out/score
    accelerate launch --quiet recipes/sam3_eval.py --config … --model_name_or_path out/mine \
        --compare base=facebook/sam3 other=results.json
    accelerate launch --quiet recipes/sam3_eval.py --config … --model_name_or_path out/mine \
        --compare base=facebook/sam3 sam2=facebook/sam2.1-hiera-tiny#box

The keys and YAML files are those of sam3_ft.py; training keys have no effect. The command writes `report.html`,
`report.md` and `report.json` to `--output_dir`, by default `out/eval/NAME` of the model, and results, ground truth and
pictures of each model below it. The `output_dir` of a YAML file is not used.
"""

from sam_ft.arguments import SAM3_ARGUMENTS, EvalArguments, Run
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program


def make_parser() -> RecipeParser:
    """Build the parser of the keys of training and of evaluation."""
    return RecipeParser((*SAM3_ARGUMENTS, EvalArguments))


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
