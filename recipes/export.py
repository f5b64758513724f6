r"""Export of a tuned model: merged weights, the official sam3.pt, the video layout, ONNX; and import of a sam3.pt.

    python recipes/export.py --model_name_or_path out/mine --format transformers --output_path out/merged
    python recipes/export.py --model_name_or_path out/mine --format official --base path/to/sam3.pt \
        --output_path out/sam3_tuned.pt
    python recipes/export.py --model_name_or_path out/mine --format video --base facebook/sam3 --output_path out/video
    python recipes/export.py --model_name_or_path out/mine --format onnx --output_path out/onnx
    python recipes/export.py --model_name_or_path out/concepts --format onnx --output_path out/onnx_concepts
    python recipes/export.py --model_name_or_path path/to/sam3.pt --format transformers --output_path out/from_official
    python recipes/export.py --verify path/to/anything.pt

Every export is loaded back and compared with its source before it is moved to `--output_path`. `--help` lists the
keys.
"""

from sam_ft.commands.program import find_command, run_recipe


COMMAND = find_command("export")

if __name__ == "__main__":
    run_recipe(COMMAND)
