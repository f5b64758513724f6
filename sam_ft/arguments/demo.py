"""Keys of the demo page."""

from dataclasses import dataclass

from .base import arg


@dataclass
class DemoArguments:
    """What is shown, and where."""

    base: str | None = arg(None, "A second model, shown beside `model_name_or_path`: what it was tuned from.")
    examples: str | None = arg(None, "Folder whose pictures are offered.")
    port: int = arg(7860, "Port of the page.")
    host: str = arg("127.0.0.1", "Address of the page; 0.0.0.0 shows it to other machines.")
    share: bool = arg(False, "Also through a public link of Gradio's.")
    device: str | None = arg(
        None, "Where it runs: cuda, cuda:1, mps, cpu. Default: the accelerator, where there is one."
    )

    def __post_init__(self):
        if not 0 <= self.port <= 65535:
            raise ValueError(f"`port` is {self.port}; it must lie between 0 and 65535")
