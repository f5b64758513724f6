"""Backend of Label Studio: predictions of a model while people label.

    LABEL_STUDIO_API_KEY=... python recipes/serve.py --model_name_or_path out/mine --label_studio http://localhost:8080

The keys are the model keys, from the YAML files of sam3_ft.py; `--help` lists them.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("serve")

if __name__ == "__main__":
    run_recipe(COMMAND)
