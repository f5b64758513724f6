"""Export of a tuned model, and verification of a file of weights."""

import logging
from pathlib import Path

from ..arguments import ExportArguments, ModelArguments
from ..export.formats import FORMATS, Export
from ..export.output_paths import check_output
from ..export.source_model import load_source, to_export_options, verify
from ..utils.console import stage
from .key_conversion import to_model_options


logger = logging.getLogger("sam_ft.run")


def export_model(model_args: ModelArguments, export_args: ExportArguments) -> bool:
    """
    Export a model, or verify a file of weights.

    Args:
        model_args (`ModelArguments`): Model to export.
        export_args (`ExportArguments`): Format and output path, or the file to verify.

    Returns:
        `bool`: Whether all tensors of the verified file fit; `True` after an export.

    Raises:
        ValueError: If the model cannot be loaded, or the output path contains files that are not ours.
    """
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
        model, processor = load_source(to_export_options(to_model_options(model_args, seed=0)), export_args.base)
    with stage(f"{export_args.format}: written, loaded back and compared"):
        difference = FORMATS[export_args.format](Export(model, processor, name, export_args.base), output)
    logger.info("%s: its outputs differ from %s's by %.2g at most", output, name, difference)
    return True
