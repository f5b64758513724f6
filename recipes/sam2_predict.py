r"""Prediction of SAM 2: images, clicks and boxes to masks, with the base, a tuned model, an adapter, or a Hub id.

    python recipes/sam2_predict.py --model_name_or_path out/mine --images photos/ --prompt_file prompts.json
    python recipes/sam2_predict.py --model_name_or_path out/mine --images photos/ --prompt_file detections_coco.json \
        --outputs coco labelme masks

All objects of an image share one pass of the image encoder. The same command resumes a stopped one. The keys are the
model's keys, from the YAML files of sam2_ft.py; `--help` lists them.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("predict", "sam2")

if __name__ == "__main__":
    run_recipe(COMMAND)
