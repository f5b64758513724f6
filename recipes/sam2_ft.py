"""Fine-tuning of SAM 2 on masks: points, boxes, several clicks.

    accelerate launch --quiet recipes/sam2_ft.py                        # without arguments: the smoke test
    accelerate launch --quiet recipes/sam2_ft.py --config recipes/configs/sam2_ft.yaml --dataset_name path/to/coco
    accelerate launch --quiet recipes/sam2_ft.py --config … --dry_run   # every stage once, on any device

A second run with the same `output_dir` resumes the first. sam_ft/commands/finetune.py implements the stages of a run;
`--help` lists the keys.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("finetune", "sam2")

if __name__ == "__main__":
    run_recipe(COMMAND)
