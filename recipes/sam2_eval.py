"""
Score SAM 2: IoU after 1 to n clicks and after a box, object by object; one model, or several side by side, SAM 3 among them.

    accelerate launch --quiet recipes/sam2_eval.py --config recipes/configs/sam2_smoke.yaml --model_name_or_path out/sam2-smoke --output_dir out/score
    accelerate launch --quiet recipes/sam2_eval.py --config … --model_name_or_path out/mine --compare base=facebook/sam2.1-hiera-tiny sam3=facebook/sam3
    accelerate launch --quiet recipes/sam2_eval.py --config … --model_name_or_path out/mine --compare boxes=out/mine#box clicks=out/mine#point

Takes the keys and YAML files of sam2_ft.py; those of training are not used. Writes `report.html`, `report.md` and `report.json` to `--output_dir`, or to
out/eval/NAME of the model where the command line does not give it, and results, ground truth, objects and pictures of each model below it.
"""

from sam_ft.arguments import SAM2_ARGUMENTS, EvalArguments, Run
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program


def make_parser() -> RecipeParser:
    return RecipeParser((*SAM2_ARGUMENTS, EvalArguments))


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
