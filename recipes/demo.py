"""Demo page to compare models side by side in a browser: a picture, phrases, exemplar boxes.

    python recipes/demo.py --model_name_or_path out/demo --base sam-ft/tiny --examples data/test_shapes
    python recipes/demo.py --model_name_or_path sam-ft/tiny --concepts out/demo --base sam-ft/tiny

It needs `pip install sam-ft[demo]`. The keys are the model keys, from the YAML files of
sam3_ft.py; `--help` lists them.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("demo")

if __name__ == "__main__":
    run_recipe(COMMAND)
