"""Kinds of findings: severity, effect on training, and remedy."""

from dataclasses import dataclass


BLOCKS, WRONG, MINOR = SEVERITIES = ("blocks training", "wrong targets or metrics", "worth a look")


@dataclass(frozen=True)
class FindingKind:
    """
    Description of a kind of findings.

    Attributes:
        severity (`str`): One of `SEVERITIES`; findings that are not usable block training whatever their kind.
        effect (`str`): Effect on training.
        remedy (`str`): The fix, in one sentence.
    """

    severity: str
    effect: str
    remedy: str


_OTHER = FindingKind(
    MINOR, "The records are used as the message describes.", "Compare the records with their file, and correct them."
)
_KINDS = {
    "nothing to train on": FindingKind(
        BLOCKS,
        "There are no training rows.",
        "Set `train_split`, or make splits with `--new_validation_fraction` of convert_data.py.",
    ),
    "a training run is refused": FindingKind(
        BLOCKS, "sam3_ft.py ends with this message.", "Change the key or the file that the message names."
    ),
    "a split cannot be read": FindingKind(
        WRONG,
        "No row of the split is used.",
        "Set the key or correct the file that the message names.",
    ),
    "rows that cannot be used": FindingKind(
        MINOR,
        "Training ends with this message, or leaves the images out with `on_bad_rows: skip`.",
        "Correct the records, or set `on_bad_rows: skip`.",
    ),
    "annotations that cannot be used": FindingKind(
        MINOR,
        "Training ends with this message; with `on_bad_rows: skip` the annotations are left out, and their phrases "
        "are not exhaustive in their images.",
        "Correct the annotations, or set `on_bad_rows: skip`.",
    ),
    "leak between splits": FindingKind(
        WRONG,
        "Images of training are evaluated, so metrics are optimistic.",
        "Remove the copies from one split, or remove the validation split: `validation_fraction` then keeps copies "
        "on one side.",
    ),
    "duplicate instance": FindingKind(
        WRONG,
        "One object is two targets, so the model is trained to predict it twice.",
        "Delete one of the two annotations.",
    ),
    "more instances than queries": FindingKind(
        WRONG,
        "SAM 3 has 200 queries for a phrase and an image: a step trains at most 200 of the instances, and no more can "
        "be predicted.",
        "Cut the images into tiles of at most 200 instances of a phrase, and predict with `tile_size`.",
    ),
    "mask in pieces": FindingKind(
        WRONG,
        "Pieces that are several objects are trained as one instance.",
        "Save each object as a mask of its own; ignore the finding where an object is occluded.",
    ),
    "listed box is not the mask's": FindingKind(
        WRONG,
        "The mask's box is trained; where the mask is wrong, so is the target.",
        "Look at the mask; export the annotations again if it does not fit its object.",
    ),
    "`imageData` is of another image than the file": FindingKind(
        WRONG,
        "Masks may lie on another image than they were drawn on.",
        "Save the JSON file with its own image again.",
    ),
    "not a noun phrase": FindingKind(
        WRONG, "The text encoder receives a text without a visual meaning.", "Rename the class with `phrase_map`."
    ),
    "longer than 32 tokens": FindingKind(
        WRONG, "The phrase is truncated for the model.", "Shorten the phrase with `phrase_map`."
    ),
    "two phrases for one concept": FindingKind(
        WRONG,
        "Objects of one phrase are trained as absent for the other.",
        "Merge the phrases with `phrase_map`.",
    ),
    "duplicate image": FindingKind(
        MINOR, "The image counts twice in training or evaluation.", "Remove one of the two images."
    ),
    "augmented copies": FindingKind(
        MINOR,
        "Images with more copies count more; sam_ft augments during training.",
        "Export from Roboflow without augmentation.",
    ),
    "rotated by EXIF": FindingKind(
        MINOR,
        "The image is rotated upright when it is read; its annotations must be upright too.",
        "Look at one picture; if masks are rotated, save the images upright and export again.",
    ),
    "channels of images": FindingKind(
        MINOR,
        "The model receives 8-bit RGB.",
        "Nothing to do if the pictures look right; otherwise convert the images to 8-bit RGB.",
    ),
    "images that no annotation lists": FindingKind(
        MINOR, "The images are not used.", "Annotate them, or correct the names in the annotation file."
    ),
    "images without an instance": FindingKind(
        MINOR,
        "Every phrase whose labels are complete is trained as absent in these images.",
        "Nothing to do if the images contain none of the phrases; look at a few, and remove images without labels.",
    ),
    "too small for the mask loss": FindingKind(
        MINOR,
        "The mask loss has no pixel of the instance; its box and its class are trained.",
        "Cut the images into tiles, or remove annotations that are noise.",
    ),
    "listed area is the box's": FindingKind(
        MINOR, "The mask's area is used.", "Nothing to do; Roboflow exports areas this way."
    ),
    "listed area is not the mask's": FindingKind(
        MINOR, "The mask's area is used.", "Look at one mask; export again if it does not fit its object."
    ),
    "annotation without an area": FindingKind(
        MINOR,
        "Points and lines are not trained; their phrases are not exhaustive in their images.",
        "Draw the objects as polygons, or remove the annotations.",
    ),
    "mask without a pixel": FindingKind(
        MINOR, "The listed box is trained, without a mask.", "Draw the mask again, or remove the annotation."
    ),
    "normalised box beyond 1": FindingKind(MINOR, "The box is clipped at the image's edge.", "Nothing to do."),
}


def kind_of(name: str) -> FindingKind:
    """
    Return the description of a kind of findings.

    Args:
        name (`str`): `Finding.kind`; a kind that no entry describes is worth a look.
    """
    return _KINDS.get(name, _OTHER)
