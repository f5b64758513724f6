"""Registry of the export formats. Each is written as a draft, loaded back, compared with its source, and moved."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .checked_export import Export
from .official_format import write_official, write_official_concepts
from .onnx_format import write_onnx
from .transformers_format import write_transformers
from .video_format import write_video


@dataclass(frozen=True)
class ExportFormat:
    """
    Export format.

    Attributes:
        write_model (`Callable`): Function that writes a model: `write_model(export, output)` returns the maximum
            absolute difference between the outputs of the written model and of its source.
        write_concepts (`Callable`, *optional*): The same for the concepts of a model.
        concept_note (`str`): Use of concepts in a format without `write_concepts`, for the error message.
        writes_file (`bool`): Whether the output is a file instead of a folder.
    """

    write_model: Callable[[Export, Path], float]
    write_concepts: Callable[[Export, Path], float] | None = None
    concept_note: str = ""
    writes_file: bool = False

    def __call__(self, export: Export, output: Path) -> float:
        """
        Write a model, or its concepts if it has any.

        Args:
            export (`Export`): Source.
            output (`Path`): File or folder.

        Returns:
            `float`: Maximum absolute difference between the outputs of the written model and of the source.
        """
        write = self.write_model if export.model.concepts is None else self.write_concepts
        return write(export, output)


FORMATS: dict[str, ExportFormat] = {
    "transformers": ExportFormat(
        write_transformers, concept_note="Plain Transformers loads the base and concepts.safetensors as they are"
    ),
    "official": ExportFormat(write_official, write_official_concepts, writes_file=True),
    "video": ExportFormat(
        write_video,
        concept_note="A Sam3VideoModel takes the tokens of concepts.safetensors as the embeddings of a prompt",
    ),
    "onnx": ExportFormat(write_onnx, write_onnx),
}


def check_concepts_supported(name: str, source: str) -> None:
    """
    Raise `ValueError` if a format cannot contain concepts.

    Args:
        name (`str`): Name of the format.
        source (`str`): Folder or Hub id of the concepts, for the message.
    """
    if FORMATS[name].write_concepts is None:
        raise ValueError(
            f"`format` is {name!r}, but {source!r} contains concepts, which need no such export. "
            f"{FORMATS[name].concept_note}; docs/concepts.md has the code. To export the base model alone, leave the "
            "concepts out"
        )
