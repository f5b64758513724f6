"""Options of data sets: source, splits, and conversion of files to rows."""

from dataclasses import dataclass, field
from pathlib import Path

from .keys import check_values, key, key_of
from .phrases import PhraseMap
from .scenes import SceneFiles


SYNTHETIC = "synthetic"
SYNTHETIC_STREAM = "synthetic-stream"
SYNTHETIC_FOLDER = Path("data/test_shapes")
# Registry of layouts: name -> module of `sam_ft/data/readers/` that reads it. In the order of detection: layouts with
# distinctive files come before those whose files several layouts share.
LAYOUTS = {
    "detections": "detections",
    "supervisely": "supervisely",
    "darwin": "darwin",
    "labelbox": "labelbox",
    "openimages": "openimages",
    "roboflow_masks": "roboflow_masks",
    "cityscapes": "cityscapes",
    "datumaro": "datumaro",
    "label_studio": "label_studio",
    "coco": "coco",
    "coco_panoptic": "coco_panoptic",
    "yolo": "yolo",
    "cvat": "cvat",
    "isat": "isat",
    "polygons": "polygon_files",
    "via": "via",
    "labelme": "labelme",
    "sa1b": "sa1b",
    "voc": "voc",
    "mask_files": "mask_files",
    "mask_values": "mask_values",
}
PHRASE_SOURCES = ("category", "noun_phrase", "both")
NOUN_PHRASES = ("open", "exhaustive", "closed")
MASK_VALUES = ("instances", "classes", "components")


@dataclass
class HubSource:
    """
    Location and reading options of a Hub data set.

    Attributes:
        name (`str`): Hub id, or a folder of parquet files, an imagefolder, WebDataset shards, or a result of
            `save_to_disk`.
        config (`str`, *optional*): Configuration of a data set that has several.
        revision (`str`, *optional*): Branch, tag or commit.
        data_files (`list[str]`): Patterns of the files to read; all files if empty.
        column_mapping (`dict[str, str | None]`): Column of each role, `None` for no column; see `columns.py`.
        streaming (`bool`): Fetch rows of parquet files when they are requested; other formats are prepared as a whole.
    """

    name: str = ""
    config: str | None = key(None, "Configuration of a Hub data set that has several.", name="dataset_config")
    revision: str | None = key(
        None, "Branch, tag or commit of a Hub data set. Default: its main branch.", name="dataset_revision"
    )
    data_files: list[str] = key([], "Glob patterns of the files to read from a Hub data set. Default: all.")
    column_mapping: dict = key(
        {},
        "Column of each role in a Hub data set, if detection is wrong: {image: COLUMN, masks: COLUMN, phrase: "
        "COLUMN}.",
    )
    streaming: bool = key(
        False,
        "Read training rows during training instead of converting all of them first; parquet files of the Hub are "
        "downloaded by row groups. The order of the rows is the same as without it.",
    )


@dataclass
class DatasetOptions:
    """
    Data sets of a run.

    Attributes:
        dataset_name (`str`): Folder or annotation file in one of the accepted layouts, or Hub id; `synthetic`: scenes
            written to `data/test_shapes`; `synthetic-stream`: new scenes drawn for every sample, with phrases of
            attributes.
        annotation_file (`str`, *optional*): COCO file, in the folder `dataset_name` or instead of it.
        image_folder (`str`, *optional*): Folder of its images.
        eval_annotation_file (`str`, *optional*): COCO file for evaluation.
        eval_image_folder (`str`, *optional*): Folder of its images.
        layout (`str`, *optional*): Layout of the folder, detected by default.
        train_split (`str`): Name of the training split.
        eval_split (`str`): Name of the validation split; without one, `validation_fraction` is used.
        validation_fraction (`float`): Fraction of the training images held out without a validation split.
        max_train_samples (`int`, *optional*): Maximum number of training images; the first are used.
        max_eval_samples (`int`, *optional*): Maximum number of validation images; the first are used.
        scenes (`SceneFiles`): Options of the synthetic data sets.
        scenes_folder (`str` or `Path`): Folder that synthetic scenes are written to.
        streaming (`bool`): Make training rows when they are requested, without conversion beforehand.
        extra_datasets (`list[str]`): Folders or Hub ids of additional training data.
        mixture_weights (`list[float]`): Sampling weights of `dataset_name` and `extra_datasets`, equal by default.
        unseen_phrases (`list[str]`): Phrases removed from training; images that show them are used for validation.
        replay (`str`, *optional*): Folder or Hub id of training data for retention, mixed in against forgetting.
        replay_share (`float`): Fraction of `replay` in an epoch.
        hub (`HubSource`): Reading options of a Hub data set; its name is `dataset_name`.
    """

    dataset_name: str | None = key(
        SYNTHETIC,
        "Data set: a folder or an annotation file in a supported layout (see docs/data.md), or a Hub id, owner/name. "
        "synthetic: scenes of coloured shapes, written once to a folder below data/test_shapes; synthetic-stream: "
        "such scenes drawn during training, with phrases from attributes.",
    )
    annotation_file: str | None = key(
        None, "COCO annotation file of the training images, in the folder `dataset_name` if that is set."
    )
    image_folder: str | None = key(
        None,
        "Image folder of `annotation_file`. Default: the folder of the file, or the usual folders of `dataset_name`.",
    )
    eval_annotation_file: str | None = key(
        None, "COCO annotation file of the evaluation images, used with `annotation_file`."
    )
    eval_image_folder: str | None = key(None, "Image folder of `eval_annotation_file`. Default: `image_folder`.")
    layout: str | None = key(
        None,
        f"Layout of the data set folder: {', '.join(LAYOUTS)}. Default: detected and logged.",
        choices=tuple(LAYOUTS),
    )
    train_split: str = key("train", "Name of the split to train on.")
    eval_split: str = key("validation", "Name of the split to evaluate on: validation or test.")
    validation_fraction: float = key(
        0.1,
        "Fraction of the training images, 0 to 0.9, held out if the data set has no validation split.",
        low=0,
        high=0.9,
    )
    max_train_samples: int | None = key(
        None, "Number of training images to use, at least 1, from the first. Default: all.", low=1
    )
    max_eval_samples: int | None = key(
        None, "Number of evaluation images to use, at least 1, from the first. Default: all.", low=1
    )
    scenes: SceneFiles = field(default_factory=SceneFiles)
    scenes_folder: str | Path = SYNTHETIC_FOLDER
    streaming: bool = key_of(HubSource, "streaming")
    extra_datasets: list[str] = key(
        [],
        "Folders or Hub ids whose training splits are mixed into training. Keys of Hub data sets, such as "
        "`dataset_config`, apply to `dataset_name` alone.",
    )
    mixture_weights: list[float] = key(
        [], "Sampling weights of `dataset_name` and each of `extra_datasets`, in this order. Default: equal."
    )
    unseen_phrases: list[str] = key(
        [],
        "Phrases that are held out: training never prompts them, and images that contain one are used for evaluation, "
        "where these phrases get metrics of their own (`_untrained`).",
    )
    replay: str | None = key(
        None,
        "Folder or Hub id of a replay data set that is mixed into training for retention, such as the data of an "
        "earlier training run.",
    )
    replay_share: float = key(
        0.25,
        "Fraction of `replay` among the training images, between 0 and 1, spread evenly over the batches.",
        above=0,
        below=1,
    )
    hub: HubSource = field(default_factory=HubSource)

    def __post_init__(self) -> None:
        check_values(self)

    @property
    def additional_datasets(self) -> list[str]:
        """Names of all additional training data sets."""
        return [*self.extra_datasets, *([self.replay] if self.replay else [])]


@dataclass
class ReadOptions:
    """
    Options of the conversion of files to rows.

    Attributes:
        phrase_source (`str`): `category`: the classes are a closed vocabulary, and a class without an instance in an
            image is absent there; `noun_phrase`: the phrase of each annotation, absences unknown; `both`.
        phrase_map (`PhraseMap`): Phrases of classes that replace their names.
        noun_phrases (`str`): Labelling guarantee of noun phrases. `open`: other instances may be unlabelled;
            `exhaustive`: an image that has the phrase has all its instances labelled; `closed`: in addition, every
            other phrase of the file is absent.
        class_name (`str`, *optional*): Class of all instances if the source has no class names.
        class_names (`str`, *optional*): File of names of numbered classes; see `read_class_names`.
        class_attribute (`str`, *optional*): VIA attribute that contains the class, or several with commas between
            them.
        mask_values (`str`, *optional*): Meaning of the values of mask images. `instances`: one object each; `classes`:
            one mask for each class; `components`: classes whose connected parts are objects.
        attributes (`AttributeTemplates`, *optional*): Templates of additional phrases from classes and attributes.
        on_bad_rows (`str`): `error` stops at the first row that cannot be used. `skip` leaves out and reports an
            annotation that cannot be used, whose phrases are then not exhaustive in its image, or the row if its image
            cannot be used.
        image_channels (`list[int]`): Three channels, numbered from 1, that are used as red, green and blue of images
            with more channels; none by default.
        verify_images (`bool`): Decode every image while reading, so that damage is detected before training.
        allow_outside_images (`bool`): Read images that lie outside the folders of the data set.
    """

    phrase_source: str = key(
        "category",
        "Source of the phrases: category names, the annotations' noun_phrase fields, or both.",
        choices=PHRASE_SOURCES,
    )
    phrase_map: PhraseMap = field(default_factory=PhraseMap)
    noun_phrases: str = key(
        "exhaustive",
        "Completeness of the annotations' noun_phrase labels. open: other instances may be unlabelled; exhaustive: "
        "all instances in a labelled image are labelled; closed: also, images without the label contain no instance.",
        choices=NOUN_PHRASES,
    )
    class_name: str | None = key(
        None, "Class of all instances, for data without class names such as mask images and SA-1B."
    )
    class_names: str | None = key(
        None, 'JSON, YAML or text file of class names for numeric classes: {"0": "road"} or a list.'
    )
    class_attribute: str | None = key(
        None,
        "Region attribute that contains the class in VIA files, or several with commas between them, of which the "
        "first that a region has is its class.",
    )
    mask_values: str | None = key(
        None,
        "Meaning of the numbers in mask images. instances: one number per object; classes: one number per class, as "
        "one region; components: one number per class, whose connected parts are objects.",
        choices=MASK_VALUES,
    )
    attributes: object | None = None
    on_bad_rows: str = key(
        "error",
        "Handling of data that cannot be used. error: stop; skip: leave out an invalid annotation, whose phrase is "
        "then not exhaustive in its image, or an image that is missing, damaged or of another size, and list them.",
        choices=("error", "skip"),
    )
    image_channels: list[int] = key(
        [],
        "Three channels, numbered from 1, that are red, green and blue in images with more than three, such as "
        "multispectral TIFF files: 3 2 1. Training and prediction need the same value. The images are converted while "
        "they are read; for data sets that do not fit into memory, set `streaming`.",
    )
    verify_images: bool = key(True, "Decode every image once before training to find damaged files.")
    allow_outside_images: bool = key(
        False,
        "Allow images outside the data set folder, given by `..`, an absolute path or a link; without it they are an "
        "error. Set it only for annotations that you trust.",
    )

    def __post_init__(self) -> None:
        check_values(self)
        check_channels(self.image_channels)


def check_channels(channels: list[int]) -> None:
    """
    Refuse a value of `image_channels` that does not choose three channels.

    Args:
        channels (`list[int]`): Numbers from 1; nothing is chosen if empty.

    Raises:
        `ValueError`: If there are not three whole numbers of 1 or more.
    """
    is_valid = all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in channels)
    if channels and (len(channels) != 3 or not is_valid):
        raise ValueError(
            f"`image_channels` must be three channels, numbered from 1, such as [3, 2, 1], got {channels!r}"
        )
