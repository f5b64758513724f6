"""Keys of the model export."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class ExportArguments(Keys):
    """Format, output path and base of a model export."""

    key_topic: ClassVar[str] = "Export"

    format: str = key(
        "transformers",
        "Output format. transformers: a folder for Sam3Model with the adapters merged; official: one file in the "
        "layout of sam3.pt for Meta's package, or a small file of the concepts; video: a folder for Sam3VideoModel; "
        "onnx: three graphs and a script that runs them without torch, or two graphs and the concepts.",
        choices=("transformers", "official", "video", "onnx"),
    )
    output_path: str | None = key(
        None,
        "Output file (.pt or .safetensors, with `format: official`) or output folder. Default: out/export/sam3.pt, "
        "for concepts out/export/concepts.pt, or out/export/FORMAT.",
    )
    base: str | None = key(
        None,
        "Model from which this one was fine-tuned. With `format: official`, its sam3.pt: the tracker and other "
        "tensors are copied from it; without it the file contains only the tensors of the image model. With `format: "
        "video` it is required: facebook/sam3 or a folder in the same layout. If `model_name_or_path` is a file of "
        "weights: folder or Hub id of its config and processor, by default facebook/sam3.",
    )
    verify: str | None = key(
        None,
        "File or folder of weights to check instead of an export: prints a table of missing, unexpected and "
        "mis-shaped tensors and stops.",
    )
    with_text_encoder: bool = key(
        False,
        "With `format: onnx` and concepts: write the text encoder as well, for phrases without a concept.",
    )
    overwrite: bool = key(False, "Replace the existing file or folder at `output_path`.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.with_text_encoder and self.format != "onnx":
            raise ValueError(f"`with_text_encoder` is for `format: onnx`, and `format` is {self.format!r}. Remove it")
        if self.output_path is None:
            return
        is_file = self.output_path.endswith((".pt", ".safetensors"))
        if is_file != (self.format == "official"):
            needed = "a file that ends in .pt or .safetensors" if self.format == "official" else "a folder"
            raise ValueError(f"`output_path` is {self.output_path!r}; `format: {self.format}` writes {needed}")


def get_default_output(output_format: str, *, with_concepts: bool) -> str:
    """
    Return the default output path of a format.

    Args:
        output_format (`str`): The format.
        with_concepts (`bool`): Whether concepts are exported.
    """
    if output_format == "official":
        return f"out/export/{'concepts' if with_concepts else 'sam3'}.pt"
    return f"out/export/{output_format}"
