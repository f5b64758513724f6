"""Roles of the columns of a Hub data set, detected by name and type or set by `column_mapping`."""

from collections.abc import Callable
from dataclasses import dataclass

from datasets import ClassLabel, Features, Image, LargeList, List, Value


# Names of columns of each role, in the order of preference.
NAMES = {
    "image": (
        "image",
        "pixel_values",
        "img",
        "jpg",
        "jpeg",
        "png",
        "webp",
        "original_img",
        "original_image",
        "picture",
    ),
    "phrase": (
        "noun_phrase",
        "phrase",
        "text",
        "text_input",
        "caption",
        "object_name",
        "prompt",
        "expression",
        "description",
    ),
    "masks": (
        "masks",
        "mask",
        "mask_img",
        "mask_image",
        "instances",
        "annotation",
        "label",
        "segmentation",
        "segmentations",
    ),
    "segmentation": (
        "segmentation",
        "segmentations",
        "masks_rle",
        "rles",
        "rle",
        "inst.rles",
        "polygons",
        "polygon",
        "masks",
        "mask",
    ),
    "boxes": ("bbox", "bboxes", "boxes", "box"),
    "labels": (
        "category",
        "categories",
        "labels",
        "label",
        "label_names",
        "category_id",
        "class_labels",
        "classes",
        "names",
        "name",
    ),
    "crowds": ("iscrowd", "is_crowd"),
    "class_ids": ("semantic_class_to_id",),
    "segments": ("segments_info",),
    "sa1b": ("json",),
}
ROLES = tuple(NAMES)


@dataclass
class Columns:
    """
    Columns of a data set by role.

    Attributes:
        roles (`dict[str, str]`): Column of each role; `objects.bbox` is a field of a column of structs.
        features (`dict[str, object]`): Feature of each column or field.
    """

    roles: dict[str, str]
    features: dict[str, object]

    def __contains__(self, role: str) -> bool:
        return role in self.roles

    def feature(self, role: str):
        """Return the feature of the column of a role."""
        return self.features[self.roles[role]]

    def take(self, row: dict, role: str):
        """
        Return the value of a role in a row.

        Args:
            row (`dict`): A row of the data set.
            role (`str`): One of `ROLES`.

        Returns:
            The value; `None` without such a column. A list of structs is read as a struct of lists.
        """
        if role not in self.roles:
            return None
        name = self.roles[role]
        if name in row:
            return row[name]
        column, _, field = name.partition(".")
        value = row.get(column)
        if isinstance(value, list):
            return [item.get(field) for item in value]
        return None if value is None else value.get(field)


def find_columns(features: Features, mapping: dict[str, str | None]) -> Columns:
    """
    Find the column of each role.

    Args:
        features (`datasets.Features`): Features of the data set.
        mapping (`dict[str, str | None]`): Column of a role, set by the user, which takes precedence; `None`: no column
            has the role.

    Returns:
        `Columns`: The columns by role.

    Raises:
        `ValueError`: If the mapping contains an unknown role or column, or if no column contains images.
    """
    flat = _flatten(features)
    unknown = [role for role in mapping if role not in ROLES]
    if unknown:
        raise ValueError(f"`column_mapping` names the role {unknown[0]!r}; choose from {', '.join(ROLES)}")
    invalid = [column for column in mapping.values() if not isinstance(column, str | None)]
    if invalid:
        raise ValueError(f"`column_mapping` contains {invalid[0]!r}; expected the name of a column, or null for none")
    absent = [column for column in mapping.values() if column is not None and column not in flat]
    if absent:
        raise ValueError(f"`column_mapping` names the column {absent[0]!r}; the data set has {', '.join(flat)}")
    for role, column in mapping.items():
        if column is not None and not _FITS[role](flat[column]):
            raise ValueError(
                f"`column_mapping` maps {role!r} to the column {column!r}, whose type {_short(flat[column])} does not "
                "fit; name another column"
            )
    roles, assigned = dict(mapping), set(mapping.values()) - {None}
    for role, fits in _FITS.items():
        if role in roles:
            continue
        fitting = [name for name, feature in flat.items() if name not in assigned and fits(feature)]
        matches = [n for name in NAMES[role] for n in fitting if name in (n.lower(), n.rpartition(".")[2].lower())]
        if not matches and role == "image":
            matches = [name for name in fitting if isinstance(flat[name], Image)]
        if matches:
            roles[role] = matches[0]
            assigned.add(matches[0])
    roles = {role: column for role, column in roles.items() if column is not None}
    if "phrase" in roles and "labels" in roles:  # With a class for each object, the text describes the whole image.
        del roles["labels" if "phrase" in mapping and "labels" not in mapping else "phrase"]
    if "image" not in roles:
        raise ValueError(
            f"no column of the data set contains images; it has "
            f"{', '.join(f'{n} ({_short(f)})' for n, f in flat.items())}. Set `column_mapping: {{image: COLUMN}}`"
        )
    return Columns(roles, flat)


def _flatten(features: Features) -> dict[str, object]:
    flat = {}
    for name, feature in features.items():
        inner = feature.feature if isinstance(feature, List | LargeList) else feature
        if isinstance(inner, dict) and not _is_raw_image(inner) and not _is_rle(inner):
            flat[name] = inner
            wrap = List if isinstance(feature, List | LargeList) else lambda field: field
            flat |= {f"{name}.{field}": wrap(value) for field, value in inner.items()}
        else:
            flat[name] = feature
    return flat


def is_image(feature) -> bool:
    """Return whether a feature contains images, decoded by `datasets` or as bytes and path."""
    return isinstance(feature, Image) or _is_raw_image(feature)


def _is_raw_image(feature) -> bool:
    """Return whether a feature is an image in parquet that `datasets` has not written: bytes and path."""
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def _is_rle(feature) -> bool:
    return isinstance(feature, dict) and {"size", "counts"} <= set(feature)


def inside(feature):
    """Return the feature of the items of a list, or the feature itself if it is not a list."""
    return feature.feature if isinstance(feature, List | LargeList) else feature


def _is_masks(feature) -> bool:
    return is_image(feature) or is_image(inside(feature))


def _is_segmentation(feature) -> bool:
    """Return whether a feature contains polygons, RLEs, a list of them, or JSON of any of them."""
    item = inside(feature)
    if (
        _is_rle(item)
        or (isinstance(item, dict) and set(item) == {"x", "y"})
        or type(item).__name__ == "Json"
        or type(feature).__name__ == "Json"
    ):
        return True
    return isinstance(inside(item), List | LargeList)


def _is_boxes(feature) -> bool:
    item = inside(inside(feature))
    return (
        isinstance(feature, List | LargeList) and isinstance(item, Value) and item.dtype.startswith(("float", "int"))
    )


def _is_labels(feature) -> bool:
    item = inside(feature)
    return isinstance(feature, List | LargeList) and (
        isinstance(item, ClassLabel) or (isinstance(item, Value) and item.dtype.startswith(("int", "string")))
    )


def _is_text(feature) -> bool:
    return isinstance(feature, Value) and feature.dtype.endswith("string")


def _is_numbers(feature) -> bool:
    return isinstance(inside(feature), Value) and isinstance(feature, List | LargeList)


def _is_sa1b(feature) -> bool:
    return isinstance(feature, dict) and {"image", "annotations"} <= set(feature)


def _is_struct(feature) -> bool:
    return isinstance(feature, dict) or (isinstance(feature, List) and isinstance(feature.feature, dict))


# In the order of the search: each column has one role.
_FITS: dict[str, Callable] = {
    "image": is_image,
    "phrase": _is_text,
    "segmentation": _is_segmentation,
    "masks": _is_masks,
    "boxes": _is_boxes,
    "labels": _is_labels,
    "crowds": _is_numbers,
    "class_ids": _is_struct,
    "segments": _is_struct,
    "sa1b": _is_sa1b,
}


def _short(feature) -> str:
    return type(feature).__name__ if not isinstance(feature, Value) else feature.dtype
