"""Label Studio output of a prediction: tasks with predictions, and the labelling configuration that they belong to."""

import os
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from ..data.image_entries import ImageEntry
from ..reporting.phrase_colors import assign_colors, css_color
from ..utils.files import find_drafts
from ..utils.json_files import to_json
from .label_studio_regions import TAGS, LabelTool, build_prediction
from .output_target import OutputTarget
from .predictor import ImagePrediction


_TASKS, _CONFIG = "label_studio/tasks.json", "label_studio/config.xml"
_IMAGE = "image"  # name of the image in tasks and configuration
_TITLES = {"polygon": "Polygons", "brush": "Brush masks", "rectangle": "Rectangles"}


class LabelStudioOutput:
    """
    Writer of `label_studio/tasks.json`, tasks with predictions, and of `label_studio/config.xml`, their configuration.

    Masks become polygons or brush masks and detections without a mask become rectangles, see [`build_prediction`]. The
    tasks are written image by image, so that the memory does not grow with the images.

    Args:
        target (`OutputTarget`): Folder and labels.
        model_version (`str`): Version of the predictions in Label Studio.

    Raises:
        `ValueError`: If one of the files was not written by a prediction.
    """

    FILES = (_TASKS, _CONFIG)

    def __init__(self, target: OutputTarget, model_version: str):
        self.target, self.model_version = target, model_version
        # Label Studio serves the files of folders inside its document root, but not those of the root itself.
        self.document_root = os.path.dirname(target.root)
        self._tools = [LabelTool(kind, kind, _IMAGE, tuple(target.phrases)) for kind in TAGS]
        self._kinds: set[str] = set()
        self._num_images = 0
        self._stack = ExitStack()

    def __enter__(self) -> "LabelStudioOutput":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None and self._num_images:
            self._file.write("\n]\n")
        self._stack.__exit__(kind, error, traceback)
        if kind is None and self._num_images:
            self.target.owned.write_text(_CONFIG, self._build_config(), self.target.argument)

    def add(self, image: ImageEntry, prediction: ImagePrediction) -> None:
        """Add the prediction of an image."""
        if not self._num_images:
            self._open_file()
        self._num_images += 1
        answer = build_prediction(prediction, self._tools, self.model_version, str(self._num_images))
        self._kinds |= {region["from_name"] for region in answer["result"]}
        task = {"data": {_IMAGE: self._build_url(image)}, "predictions": [answer]}
        self._file.write(("[\n" if self._num_images == 1 else ",\n") + to_json(task, _TASKS))

    def describe_server(self) -> str:
        """Describe the settings with which Label Studio serves the images."""
        return (
            f"Label Studio shows the images with LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={self.document_root} and a "
            f"local storage of the folder {self.target.root}"
        )

    def _open_file(self) -> None:
        for draft in find_drafts(self.target.owned.folder / _TASKS):  # of a killed process
            draft.unlink()
        draft = self._stack.enter_context(self.target.owned.draft(_TASKS, self.target.argument))
        self._file = self._stack.enter_context(open(draft, "w", encoding="utf-8"))  # noqa: SIM115 (closed by the stack)

    def _build_url(self, image: ImageEntry) -> str:
        path = Path(os.path.relpath(image.path, self.document_root)).as_posix()
        return f"/data/local-files/?d={quote(os.fsencode(path))}"

    def _build_config(self) -> str:
        """Build the configuration: the tools that draw masks, and rectangles if a detection has no mask."""
        used = self._kinds | ({"polygon", "brush"} if self._kinds != {"rectangle"} else set())
        view = ElementTree.Element("View")
        ElementTree.SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}", zoom="true", zoomControl="true")
        for kind in (kind for kind in TAGS if kind in used):
            ElementTree.SubElement(view, "Header", value=_TITLES[kind], size="5")
            labels = ElementTree.SubElement(view, TAGS[kind], name=kind, toName=_IMAGE)
            for phrase, color in assign_colors(self.target.phrases).items():
                ElementTree.SubElement(labels, "Label", value=phrase, background=css_color(color))
        ElementTree.indent(view)
        return ElementTree.tostring(view, encoding="unicode") + "\n"
