"""Keys of an export."""

from dataclasses import dataclass

from .base import arg


@dataclass
class ExportArguments:
    """What `model_name_or_path` becomes, and where."""

    format: str = arg(
        "transformers",
        "transformers: a folder for Sam3Model, adapters merged; official: the layout of sam3.pt for Meta's package; video: a folder for "
        "Sam3VideoModel; onnx: three graphs and a script that runs them without torch.",
        choices=["transformers", "official", "video", "onnx"],
    )
    output_path: str | None = arg(
        None,
        "File (official: .pt, or .safetensors) or folder to write. Default: out/export/sam3.pt or out/export/FORMAT.",
    )
    base: str | None = arg(
        None,
        "What the model was made from. official: its sam3.pt, whose tracker and other tensors are kept; without it what the image builder "
        "needs is written. video: facebook/sam3 or a folder like it, needed. Of a model that is a file of weights: the folder or Hub id whose "
        "config and processor it takes, facebook/sam3 where not given.",
    )
    verify: str | None = arg(
        None,
        "Check this file or folder of unknown origin and stop: a table of missing, unexpected and mis-shaped tensors.",
    )
    overwrite: bool = arg(False, "Replace what is at `output_path`.")

    def __post_init__(self):
        if self.output_path is None:
            self.output_path = f"out/export/{'sam3.pt' if self.format == 'official' else self.format}"
        is_file = self.output_path.endswith((".pt", ".safetensors"))
        if is_file != (self.format == "official"):
            needed = "a file that ends in .pt or .safetensors" if self.format == "official" else "a folder"
            raise ValueError(f"`output_path` is {self.output_path!r}; `format: {self.format}` writes {needed}")
