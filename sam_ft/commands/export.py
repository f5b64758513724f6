"""Export of a tuned model, and verification of a file of weights."""

import logging
from pathlib import Path

from ..arguments import ExportArguments, ModelArguments
from ..arguments.export import get_default_output
from ..export.checked_export import Export
from ..export.formats import FORMATS, check_concepts_supported
from ..export.output_paths import check_output
from ..export.source_model import find_concept_source, load_source, to_export_options, verify
from ..export.weight_files import is_weight_file
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
        ValueError: If the model cannot be loaded, the format cannot contain its concepts, or the output path contains
            files that are not ours.
    """
    if export_args.verify:
        table = verify(export_args.verify, export_args.base)
        for line in table.lines():
            logger.info("%s", line)
        if not table.loads_officially:
            logger.info("Meta's own loader loads no tensor of it. Use `--format official` to write the names it reads")
        return table.fits
    form, base, name = export_args.format, export_args.base, model_args.model_name_or_path
    options = to_export_options(to_model_options(model_args, seed=0))
    concepts = find_concept_source(options)
    output = Path(export_args.output_path or get_default_output(form, with_concepts=concepts is not None))
    check_output(
        output, [name, base, *options.concepts], overwrite=export_args.overwrite, is_file=FORMATS[form].writes_file
    )
    if concepts is not None:
        check_concepts_supported(form, concepts)
        if base is not None and not is_weight_file(name):
            raise ValueError(f"`base` is {base!r}, but the base of the concepts {concepts!r} is known. Remove `base`")
    elif export_args.with_text_encoder:
        raise ValueError(
            "`with_text_encoder` is true, but the model has no concepts, and its text encoder is always written. "
            "Remove the key"
        )
    with stage(f"loading {name}"):
        model, processor = load_source(options, base)
    with stage(f"{form}: written, loaded back and compared"):
        export = Export(model, processor, name, base, export_args.with_text_encoder)
        difference = FORMATS[form](export, output)
    if model.concepts is not None:
        logger.info("concepts: %s", ", ".join(model.concepts.index.phrases))
    logger.info("%s: outputs differ from those of %s by at most %.2g", output, name, difference)
    return True
