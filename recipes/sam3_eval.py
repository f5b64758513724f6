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

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("evaluate")

if __name__ == "__main__":
    run_recipe(COMMAND)
