r"""Memory, time and disk of a run, measured in a few real steps before it starts.

    accelerate launch --quiet recipes/plan.py --config recipes/configs/sam3_full_24gb.yaml --dataset_name path/to/coco
    accelerate launch --quiet recipes/plan.py --config recipes/configs/sam3_lora_24gb.yaml \
        --dataset_name path/to/coco --memory_gb 16
    python recipes/plan.py --config recipes/configs/sam3_lora_8gb.yaml --card rtx4090

The keys and YAML files are those of sam3_ft.py. Where the run does not fit, the command measures the changes that make
it fit. No weights are saved. `--card` predicts memory and time of a card that is not here, without weights and data.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("plan")

if __name__ == "__main__":
    run_recipe(COMMAND)
