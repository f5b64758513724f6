"""Recognition of annotation formats that are not read, and the export of their tool that is."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


_COCO = "Export it as COCO with polygons or masks (instance segmentation)"
_NO_MASKS = "It has boxes but no masks. Draw or export masks, as COCO with polygons"
_VIDEO = "Save frames as images, and export their masks as COCO"
_MAX_FILES, _MAX_DEPTH = 5_000, 5  # limits of the search
_MAX_HEADS, _HEADS_PER_FOLDER = 60, 2  # text files that are opened
_HEAD = 4_000  # characters that are read of a file
_TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".xml", ".manifest")


@dataclass(frozen=True)
class UnreadFormat:
    """
    Format that is not read.

    Attributes:
        name (`str`): Name of the format or of the tool that writes it.
        remedy (`str`): Export or conversion that is read.
        path (`str`): Regular expression that is searched in the path of a file, relative to the folder.
        texts (`tuple[str, ...]`): Regular expressions that must all occur at the beginning of that file.
    """

    name: str
    remedy: str
    path: str = ""
    texts: tuple[str, ...] = ()


# The first format that matches is named, so formats with distinctive texts come before those with common ones.
UNREAD_FORMATS = (
    UnreadFormat(
        "Darwin JSON 1.0 (V7)",
        "Export it as Darwin JSON 2.0",
        r"\.json$",
        (r'"workview_url"|"seq"', r'"image"\s*:\s*\{'),
    ),
    UnreadFormat(
        "Labelbox export v1",
        "Export the project again as NDJSON (export v2)",
        r"json$",
        (r'"Labeled Data"|"DataRow ID"',),
    ),
    UnreadFormat("Kili", _COCO, r"json$", (r'"json_?[rR]esponse"',)),
    UnreadFormat("Encord", _COCO, r"json$", (r'"label_hash"|"data_units"|"objectHash"',)),
    UnreadFormat("SuperAnnotate", _COCO, r"json$", (r'"className"|"classId"', r'"instances"')),
    UnreadFormat(
        "Scale AI",
        "Convert its `response` to COCO with polygons",
        r"json$",
        (r'"task_id"', r'"response"|"callback_url"'),
    ),
    UnreadFormat(
        "BDD100K (Scalabel)", "Convert it with `bdd100k.label.to_coco -m ins_seg`", r"json$", (r'"poly2d"|"box2d"',)
    ),
    UnreadFormat("CreateML", _NO_MASKS, r"json$", (r'"coordinates"\s*:\s*\{', r'"(image|label)"')),
    UnreadFormat(
        "VGG Image Annotator 3", "Export it from VIA 2 as JSON, or as COCO", r"json$", (r'"project"\s*:\s*\{\s*"pid"',)
    ),
    UnreadFormat("Segments.ai", _COCO, r"json$", (r'"segmentation_bitmap"|"label_status"',)),
    UnreadFormat(
        "Amazon SageMaker Ground Truth",
        "Convert it to COCO with polygons",
        r"(json|manifest)[l]?$",
        (r'"source-ref"',),
    ),
    UnreadFormat("Google Vertex AI", _NO_MASKS, r"jsonl?$", (r'"imageGcsUri"',)),
    UnreadFormat("SA-Co/VEval", _VIDEO, r"json$", (r'"video_np_pairs"',)),
    UnreadFormat("YouTube-VIS or YouTube-VOS", _VIDEO, r"json$", (r'"videos"\s*:\s*[\[{]',)),
    UnreadFormat("SA-V", _VIDEO, r"sav_\d+[^/]*\.(json|mp4)$"),
    UnreadFormat(
        "COCO keypoints", "Use instances_*.json of COCO, which has the masks", r"person_keypoints_[^/]*\.json$"
    ),
    UnreadFormat("COCO captions", "Use instances_*.json of COCO, which has the masks", r"captions_[^/]*\.json$"),
    UnreadFormat(
        "LVIS", "Put its JSON files into annotations/ beside train2017/ and val2017/ of COCO", r"lvis_v\d[^/]*\.json$"
    ),
    UnreadFormat(
        "Label Studio CSV",
        "Export it as JSON, or as COCO",
        r"\.[ct]sv$",
        (r"\A[^\n]*\bannotation_id\b", r"\A[^\n]*\b(annotator|lead_time)\b"),
    ),
    UnreadFormat(
        "VGG Image Annotator CSV",
        "Export the annotations as JSON",
        r"\.csv$",
        (r"\A\W*filename,file_size,file_attributes",),
    ),
    UnreadFormat("CSV of boxes", _NO_MASKS, r"\.csv$", (r"\A[^\n]*\bxmin\b[^\n]*\bymin\b",)),
    UnreadFormat(
        "CSV of image labels",
        "It has no masks. Draw or export masks, as COCO with polygons",
        r"_classes\.csv$",
        (r"\Afilename",),
    ),
    UnreadFormat(
        "Pascal VOC XML beside its images",
        "To train boxes, put images into JPEGImages/ and XML files into Annotations/. For masks, add "
        "SegmentationObject/ and SegmentationClass/, or export COCO",
        r"\.xml$",
        (r"<annotation\b", r"<bndbox>|<object>"),
    ),
    UnreadFormat("KITTI", _NO_MASKS, r"\.txt$", (r"\A[A-Za-z_]\S* -?[\d.]+ -?\d+ -?[\d.]+( -?[\d.]+){11,12}\s*$",)),
    UnreadFormat("DOTA", _NO_MASKS, r"\.txt$", (r"^(-?[\d.]+ ){8}\S+ [0-2]\s*$",)),
    UnreadFormat(
        "YOLO without class names",
        "Add data.yaml with `names` and `train`, and put the files into images/ and labels/",
        r"\.txt$",
        (r"\A\d+( -?[\d.]+(e-?\d+)?){4,}\s*$",),
    ),
    UnreadFormat(
        "TFRecord", "Convert it to COCO; Roboflow exports `COCO Segmentation`", r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$"
    ),
    UnreadFormat("MATLAB file", "Convert it to mask images NAME.png (`mask_values`), or to COCO", r"\.mat$"),
    UnreadFormat("NumPy array", "Save the images and masks as PNG files (`mask_values`)", r"\.np[yz]$"),
    UnreadFormat("ADE20K", "Use its class masks (SceneParse150) with `mask_values`, or COCO", r"ADE_[^/]*_seg\.png$"),
    UnreadFormat(
        "medical volume",
        "Save slices as PNG images with mask images (`mask_values`)",
        r"\.(nii(\.gz)?|dcm|nrrd|mha)$",
    ),
    UnreadFormat(
        "geographic vector data", "Convert the polygons to pixels of each image, as COCO", r"\.(geojson|shp|gpkg)$"
    ),
    UnreadFormat("video", _VIDEO, r"\.(mp4|avi|mov|mkv|webm)$"),
    UnreadFormat(
        "WebDataset or another archive",
        "Unpack it. Shards with NAME.jpg and NAME.json of SA-1B, or with mask images, are read as they are",
        r"\.tar(\.gz)?$",
    ),
    UnreadFormat("archive", "Unpack it, and pass the folder", r"\.(zip|7z|rar|tgz)$"),
)


def find_unread_format(source: Path) -> tuple[UnreadFormat, str] | None:
    """
    Find the format of a folder or file that no reader accepts.

    Args:
        source (`Path`): The folder of a data set, or a file.

    Returns:
        `tuple[UnreadFormat, str]` or `None`: The format, and the relative path of the file that it was recognised by.
    """
    folder, paths = (source, _list_files(source)) if source.is_dir() else (source.parent, [source.name])
    heads = _read_heads(folder, paths)
    for candidate in UNREAD_FORMATS:
        for path in paths:
            if not re.search(candidate.path, path, re.IGNORECASE):
                continue
            if all(re.search(text, heads.get(path, ""), re.MULTILINE) for text in candidate.texts):
                return candidate, path
    return None


def _list_files(folder: Path) -> list[str]:
    """Return the relative paths of the first files below a folder; hidden files and linked folders are left out."""
    paths: list[str] = []
    for parent, folders, names in os.walk(folder):
        relative = Path(parent).relative_to(folder)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if len(relative.parts) >= _MAX_DEPTH:
            folders.clear()
        paths += [(relative / name).as_posix() for name in sorted(names) if not name.startswith(".")]
        if len(paths) >= _MAX_FILES:
            break
    return paths[:_MAX_FILES]


def _read_heads(folder: Path, paths: list[str]) -> dict[str, str]:
    """Return the beginnings of the first text files of each folder and suffix."""
    heads: dict[str, str] = {}
    counts: dict[tuple[str, str], int] = {}
    for path in paths:
        suffix, group = Path(path).suffix.lower(), (str(Path(path).parent), Path(path).suffix.lower())
        if suffix not in _TEXT_SUFFIXES or counts.get(group, 0) >= _HEADS_PER_FOLDER:
            continue
        counts[group] = counts.get(group, 0) + 1
        try:
            with (folder / path).open(encoding="utf-8-sig", errors="replace") as stream:
                heads[path] = stream.read(_HEAD)
        except OSError:
            continue
        if len(heads) >= _MAX_HEADS:
            break
    return heads
