"""Keys of the demo page."""

from dataclasses import dataclass
from typing import ClassVar

from ..options.keys import key
from .base import Keys


@dataclass
class DemoArguments(Keys):
    """Models, example images and network address of the demo page."""

    key_topic: ClassVar[str] = "Demo page"

    base: str | None = key(
        None,
        "Second model, shown beside `model_name_or_path` for comparison: a folder or Hub id, such as the model before "
        "fine-tuning.",
    )
    examples: str | None = key(None, "Folder of example images to choose from on the page.")
    port: int = key(7860, "Network port of the page, 0 to 65535.", low=0, high=65535)
    host: str = key("127.0.0.1", "Network address of the page; 0.0.0.0 makes it reachable from other machines.")
    share: bool = key(False, "Also create a public link through Gradio's servers.")
    device: str | None = key(
        None, "Device of the model: cuda, cuda:1, mps or cpu. Default: the accelerator if there is one, else cpu."
    )
