"""Check of the images and phrases of an output for Label Studio."""

import re
from collections.abc import Iterable

from ..data.image_entries import ImageEntry


# Characters that XML cannot contain, and `$name`, in whose place Label Studio shows a value of the task.
_NOT_IN_LABELS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]|\$\w+", re.ASCII)


def check_label_studio_input(images: Iterable[ImageEntry], phrases: list[str], argument: str = "outputs") -> None:
    """
    Check that Label Studio can show the images and that its configuration can contain the phrases.

    Args:
        images (`Iterable[ImageEntry]`): Images of a prediction.
        phrases (`list[str]`): Phrases of a prediction.
        argument (`str`): The key that lists the format, for errors.

    Raises:
        `ValueError`: If an image is a member of a tar or parquet file, or a phrase cannot be a label.
    """
    member = next((image for image in images if not image.is_file), None)
    if member is not None:
        raise ValueError(
            f"`{argument}`: label_studio needs image files, which Label Studio serves, and {member} is a member of a "
            "file. Extract the images to a folder and predict that, or leave label_studio out"
        )
    for phrase in phrases:
        if part := _NOT_IN_LABELS.search(phrase):
            raise ValueError(
                f"`{argument}`: label_studio writes the phrase {phrase!r} as a label, and a label of Label Studio "
                f"cannot contain {part.group()!r}. Change the phrase, or leave label_studio out"
            )
