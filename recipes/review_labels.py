"""Label review: for every label, the probability that it is wrong, from models that were not trained on its image.

    python recipes/review_labels.py --dataset_name path/to/data
    python recipes/review_labels.py --dataset_name path/to/data --config recipes/configs/sam3_cached_heads.yaml

The keys are those of sam3_ft.py and its YAML files, by default of sam3_concepts.yaml; `--help` lists them.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("review")

if __name__ == "__main__":
    run_recipe(COMMAND)
