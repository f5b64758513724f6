"""Keys of the demo page."""

from dataclasses import dataclass

from .base import arg


@dataclass
class DemoArguments:
    """Models, example images and network address of the demo page."""

    base: str | None = arg(
        None,
        "Second model, shown beside `model_name_or_path` for comparison: a folder or Hub id, such as the model before "
        "fine-tuning.",
    )
    examples: str | None = arg(None, "Folder of example images to choose from on the page.")
    port: int = arg(7860, "Network port of the page, 0 to 65535.")
    host: str = arg("127.0.0.1", "Network address of the page; 0.0.0.0 makes it reachable from other machines.")
    share: bool = arg(False, "Also create a public link through Gradio's servers.")
    device: str | None = arg(
        None, "Device of the model: cuda, cuda:1, mps or cpu. Default: the accelerator if there is one, else cpu."
    )

    def __post_init__(self):
        if not 0 <= self.port <= 65535:
            raise ValueError(f"`port` is {self.port}; it must lie between 0 and 65535")
