"""Labelling configuration of Label Studio: the tools that draw labelled regions, and the image that they draw on."""

from dataclasses import dataclass
from xml.etree import ElementTree

from ..utils.text import list_some, short_repr
from .label_studio_regions import TAGS, LabelTool


_KINDS = {tag.lower(): kind for kind, tag in TAGS.items()}
_EXAMPLE = '<BrushLabels name="brush" toName="image"><Label value="pothole"/></BrushLabels>'


@dataclass(frozen=True)
class LabellingConfig:
    """
    Tools of a labelling configuration.

    Attributes:
        tools (`list[LabelTool]`): Tools that draw labelled polygons, brush masks and rectangles.
        image_key (`str`): Key of the image in the data of a task.
    """

    tools: list[LabelTool]
    image_key: str

    @property
    def phrases(self) -> list[str]:
        """Labels of all tools, in their order."""
        return list(dict.fromkeys(label for tool in self.tools for label in tool.labels))


def read_labelling_config(text: str) -> LabellingConfig:
    """
    Read a labelling configuration.

    The phrase of a label is its `alias`, or else its `value`: the name with which Label Studio exports it.

    Args:
        text (`str`): XML of the configuration.

    Raises:
        `ValueError`: If it is no XML, has no tool with labels, or its tools do not draw on one image.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise ValueError(f"the labelling configuration cannot be read as XML ({error})") from error
    elements = [(_KINDS.get(element.tag.lower()), element) for element in root.iter()]
    tools = [_read_tool(kind, element) for kind, element in elements if kind is not None]
    tools = [tool for tool in tools if tool.labels]
    if not tools:
        raise ValueError(
            f"the labelling configuration has no {', '.join(TAGS.values())} with labels. Add one, such as {_EXAMPLE}"
        )
    names = {tool.image_name for tool in tools}
    if len(names) > 1:
        raise ValueError(
            f"the tools of the labelling configuration draw on several images, {list_some(sorted(names))}. Use one "
            "image for each task"
        )
    images = {element.get("name"): element for _, element in elements if element.tag.lower() == "image"}
    (name,) = names
    value = images[name].get("value") or "" if name in images else ""
    if not value.startswith("$") or len(value) == 1:
        raise ValueError(
            f"the labelling configuration has no <Image> with the name {short_repr(name)} and a value such as $image. "
            "Video and lists of images are not supported"
        )
    return LabellingConfig(tools, value[1:])


def _read_tool(kind: str, element: ElementTree.Element) -> LabelTool:
    labels = [child.get("alias") or child.get("value") or "" for child in element.iter("Label")]
    labels = tuple(dict.fromkeys(label for label in labels if label.strip()))
    return LabelTool(kind, element.get("name") or "", element.get("toName") or "", labels)
