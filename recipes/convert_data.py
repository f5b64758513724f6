r"""Conversion of any data set that this package reads to COCO with phrases, or to a data set of rows for the Hub.

    python recipes/convert_data.py --dataset_name path/to/labelme --target_dir out/coco
    python recipes/convert_data.py --dataset_name path/to/yolo --target_dir out/rows --output_format rows \
        --push_to_hub me/nuts
    python recipes/convert_data.py --dataset_name path/to/coco --target_dir out/unseen \
        --hold_out_phrases "traffic light" boat

The keys are the data keys of sam3_ft.py and sam2_ft.py, from the same YAML file with `--config`.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("convert")

if __name__ == "__main__":
    run_recipe(COMMAND)
