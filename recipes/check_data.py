"""Check of a data set: its contents, its defects, and pictures of the model's input; no weights, no GPU.

    python recipes/check_data.py --dataset_name path/to/data
    python recipes/check_data.py --config recipes/configs/sam3_lora_24gb.yaml --dataset_name owner/name --json true

The keys are the data keys of sam3_ft.py and of sam2_ft.py's YAML files; pictures and phrases are those of SAM 3. Other
keys of a YAML file are ignored. Exit status 0: the data are usable; 1: they are not; 2: they cannot be read.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("check")

if __name__ == "__main__":
    run_recipe(COMMAND)
