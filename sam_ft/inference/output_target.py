"""Target of the outputs that contain the predictions of all images."""

from dataclasses import dataclass

from ..utils.owned_files import OwnedFiles


@dataclass(frozen=True)
class OutputTarget:
    """
    Folder of an output, and what its content refers to.

    Attributes:
        owned (`OwnedFiles`): Files of the folder.
        phrases (`list[str]`): Labels or categories, in their order.
        root (`str`): Folder that all images lie in, and that their names are relative to.
        description (`str`): Description of the content, which the formats with such a field contain.
        argument (`str`): The argument that names the folder, for errors.
    """

    owned: OwnedFiles
    phrases: list[str]
    root: str
    description: str = "predictions of sam-ft"
    argument: str = "predictions_dir"
