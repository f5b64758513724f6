"""
Score SAM 3: one model, or several models and other programs' results side by side, SAM 2 among them.

    accelerate launch --quiet recipes/sam3_eval.py --config recipes/configs/demo.yaml --model_name_or_path out/demo --output_dir out/score
    accelerate launch --quiet recipes/sam3_eval.py --config … --model_name_or_path out/mine --compare base=facebook/sam3 other=results.json
    accelerate launch --quiet recipes/sam3_eval.py --config … --model_name_or_path out/mine --compare base=facebook/sam3 sam2=facebook/sam2.1-hiera-tiny#box

Takes the keys and YAML files of sam3_ft.py; those of training are not used. Writes `report.html`, `report.md` and `report.json` to `--output_dir`, or to
out/eval/NAME of the model where the command line does not give it, and results, ground truth and pictures of each model below it.
"""

from sam_ft.arguments import SAM3_ARGUMENTS, EvalArguments, Run
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program


def make_parser() -> RecipeParser:
    return RecipeParser((*SAM3_ARGUMENTS, EvalArguments))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = make_parser()
    *groups, eval_args = parser.parse(arguments)
    # a YAML file's `output_dir` is the training run's
    output_dir = groups[-1].output_dir if "output_dir" in parser.given else None

    from sam_ft.commands.evaluate import score_models

    return score_models(Run(*groups), eval_args, output_dir)


if __name__ == "__main__":
    with as_program():
        main()
