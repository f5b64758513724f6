r"""Export of a tuned model: merged weights, the official sam3.pt, the video layout, ONNX; and import of a sam3.pt.

    python recipes/export.py --model_name_or_path out/mine --format transformers --output_path out/merged
    python recipes/export.py --model_name_or_path out/mine --format official --base path/to/sam3.pt \
        --output_path out/sam3_tuned.pt
    python recipes/export.py --model_name_or_path out/mine --format video --base facebook/sam3 --output_path out/video
    python recipes/export.py --model_name_or_path out/mine --format onnx --output_path out/onnx
    python recipes/export.py --model_name_or_path path/to/sam3.pt --format transformers --output_path out/from_official
    python recipes/export.py --verify path/to/anything.pt

Every export is loaded back and compared with its source before it is moved to `--output_path`. `--help` lists the
keys.
"""

import logging
import sys
from pathlib import Path

from sam_ft.arguments import DataArguments, ExportArguments, LossArguments, ModelArguments, Sam3TrainingArguments
from sam_ft.arguments.parser import RecipeParser
from sam_ft.utils.console import as_program, stage


logger = logging.getLogger("sam_ft.run")


def make_parser() -> RecipeParser:
    """Build the parser of the model keys and of the export's keys."""
    return RecipeParser(
        (ModelArguments, ExportArguments), ignored=(DataArguments, LossArguments, Sam3TrainingArguments)
    )


def main(model_args: ModelArguments, export_args: ExportArguments) -> bool:
    """Export a model, or verify a file of weights.

    Args:
        model_args (`ModelArguments`): Model to export.
        export_args (`ExportArguments`): Format and output path, or the file to verify.

    Returns:
        `bool`: Whether all tensors of the verified file fit; `True` after an export.
    """
    from sam_ft.export.formats import FORMATS, Export
    from sam_ft.export.output_places import check_output
    from sam_ft.export.source_model import load_source, plain_options, verify

    if export_args.verify:
        table = verify(export_args.verify, export_args.base)
        for line in table.lines():
            logger.info("%s", line)
        if not table.loads_officially:
            logger.info("Meta's own loader loads no tensor of it. Use `--format official` to write the names it reads")
        return table.fits
    name, output = model_args.model_name_or_path, Path(export_args.output_path)
    check_output(
        output, [name, export_args.base], overwrite=export_args.overwrite, is_file=export_args.format == "official"
    )
    with stage(f"loading {name}"):
        model, processor = load_source(plain_options(model_args.options(seed=0)), export_args.base)
    with stage(f"{export_args.format}: written, loaded back and compared"):
        difference = FORMATS[export_args.format](Export(model, processor, name, export_args.base), output)
    logger.info("%s: its outputs differ from %s's by %.2g at most", output, name, difference)
    return True


if __name__ == "__main__":
    with as_program():
        is_ok = main(*make_parser().parse())
    sys.exit(0 if is_ok else 1)
