r"""Fine-tuning of SAM 3 on phrases and masks.

    accelerate launch --quiet recipes/sam3_ft.py                        # without arguments: the demo
    accelerate launch --quiet recipes/sam3_ft.py --config recipes/configs/sam3_full_24gb.yaml \
        --dataset_name path/to/coco
    accelerate launch --quiet recipes/sam3_ft.py --config … --dry_run   # every stage once, on any device

A second run with the same `output_dir` resumes the first. sam_ft/commands/finetune.py implements the stages of a run;
`--help` lists the keys.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("finetune")

if __name__ == "__main__":
    run_recipe(COMMAND)
