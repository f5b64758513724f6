r"""Prediction of SAM 3: images and phrases to masks, with the base, a tuned model, an adapter, or a Hub id.

    python recipes/sam3_predict.py --model_name_or_path out/mine --images photos/ --phrases "pothole" "manhole cover"
    python recipes/sam3_predict.py --model_name_or_path out/mine --images 'photos/**/*.jpg' \
        --outputs coco labelme masks overlays
    python recipes/sam3_predict.py --model_name_or_path facebook/sam3 --images aerial.tif --phrases car \
        --tile_size 1008 --nms_iom 0.5

All phrases of an image share one pass of the vision encoder. The same command resumes a stopped one. The keys are the
model's keys, from the YAML files of sam3_ft.py; `--help` lists them.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("predict")

if __name__ == "__main__":
    run_recipe(COMMAND)
