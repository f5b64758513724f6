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

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("evaluate", "sam2")

if __name__ == "__main__":
    run_recipe(COMMAND)
