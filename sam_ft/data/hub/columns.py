"""What each column of a Hub data set holds: roles, found by name and type, or told by the user."""

from collections.abc import Callable
from dataclasses import dataclass

from datasets import ClassLabel, Features, Image, LargeList, List, Value


# role -> names that columns of that role have, best first
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
    Attributes:
        roles (`dict[str, str]`): role -> column, `objects.bbox` for a field of a column of structs.
        features (`dict[str, object]`): column or field -> its feature.
    """

    roles: dict[str, str]
    features: dict[str, object]

    def __contains__(self, role: str) -> bool:
        return role in self.roles

    def feature(self, role: str):
        return self.features[self.roles[role]]

    def take(self, row: dict, role: str):
        """The value of a role in a row, `None` where the column is missing; a list of structs reads as a struct of lists."""
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
    Args:
        features (`datasets.Features`): of the data set.
        mapping (`dict[str, str | None]`): role -> column, as the user tells; wins. `None`: no column has that role.

    Raises:
        `ValueError`: where the mapping names an unknown role or column, or no column is an image.
    """
    flat = _flatten(features)
    unknown = [role for role in mapping if role not in ROLES]
    if unknown:
        raise ValueError(f"`column_mapping` names the role {unknown[0]!r}; choose from {', '.join(ROLES)}")
    wrong = [column for column in mapping.values() if not isinstance(column, str | None)]
    if wrong:
        raise ValueError(f"`column_mapping` gives {wrong[0]!r}; expected the name of a column, or null for none")
    absent = [column for column in mapping.values() if column is not None and column not in flat]
    if absent:
        raise ValueError(f"`column_mapping` names the column {absent[0]!r}; the data set has {', '.join(flat)}")
    for role, column in mapping.items():
        if column is not None and not _FITS[role](flat[column]):
            raise ValueError(f"`column_mapping` says that {column!r} is {role}, but it holds {_short(flat[column])}")
    roles, taken = dict(mapping), set(mapping.values()) - {None}
    for role, fits in _FITS.items():
        if role in roles:
            continue
        found = [name for name, feature in flat.items() if name not in taken and fits(feature)]
        named = [n for wanted in NAMES[role] for n in found if wanted in (n.lower(), n.rpartition(".")[2].lower())]
        if not named and role == "image":
            named = [name for name in found if isinstance(flat[name], Image)]
        if named:
            roles[role] = named[0]
            taken.add(named[0])
    roles = {role: column for role, column in roles.items() if column is not None}
    if "phrase" in roles and "labels" in roles:  # each object has its own class: the text is of the whole image
        del roles["labels" if "phrase" in mapping and "labels" not in mapping else "phrase"]
    if "image" not in roles:
        raise ValueError(
            f"no column of the data set holds images; it has {', '.join(f'{n} ({_short(f)})' for n, f in flat.items())}. Name it: "
            "`column_mapping: {image: COLUMN}`"
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
    return isinstance(feature, Image) or _is_raw_image(feature)


def _is_raw_image(feature) -> bool:
    """Parquet that `datasets` has not written: bytes and path are not known to be an image."""
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def _is_rle(feature) -> bool:
    return isinstance(feature, dict) and {"size", "counts"} <= set(feature)


def inside(feature):
    """What a list holds; the feature itself where it is none."""
    return feature.feature if isinstance(feature, List | LargeList) else feature


def _is_masks(feature) -> bool:
    return is_image(feature) or is_image(inside(feature))


def _is_segmentation(feature) -> bool:
    """Polygons `[instance][part][xy]`, `[instance]{x, y}`, or RLEs, one or a list, or a column of mixed ones."""
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


# in the order of the search: a column that one role takes is not offered to those after it
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
