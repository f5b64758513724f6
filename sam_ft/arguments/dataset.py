"""Keys of the data that SAM 3 and SAM 2 share: source, splits, reading and augmentation."""

import dataclasses
from dataclasses import dataclass

from ..data.hub.source import HubSource
from ..data.loading import SYNTHETIC, SYNTHETIC_FOLDER, SYNTHETIC_STREAM, DatasetOptions
from ..data.phrases.attributes import read_attribute_templates
from ..data.phrases.vocabulary import PhraseMap, read_phrase_map
from ..data.readers.layouts import LAYOUTS
from ..data.readers.records import MASK_VALUES, ReadOptions
from ..data.samples.transforms import TransformOptions
from ..data.synthetic.scene_files import SceneFiles
from ..data.synthetic.scenes import COLORS, FILLS, LIGHT_GROUNDS, SHAPES, SIZES, SceneOptions
from .base import arg, check_ranges, default_of, take


@dataclass
class SharedDataArguments:
    """Source, splits, reading and augmentation of the data: keys that SAM 3 and SAM 2 share."""

    dataset_name: str | None = arg(
        SYNTHETIC,
        "Data set: a folder in a supported layout (see docs/data.md), or a Hub id, owner/name. synthetic: scenes of "
        "coloured shapes, written once to a folder below data/test_shapes; synthetic-stream: such scenes drawn during "
        "training, with phrases from attributes.",
    )
    annotation_file: str | None = arg(None, "COCO annotation file of the training images; replaces `dataset_name`.")
    image_folder: str | None = arg(None, "Image folder of `annotation_file`. Default: the folder of the file.")
    eval_annotation_file: str | None = arg(
        None, "COCO annotation file of the evaluation images, used with `annotation_file`."
    )
    eval_image_folder: str | None = arg(None, "Image folder of `eval_annotation_file`. Default: `image_folder`.")
    layout: str | None = arg(
        None, "Layout of the data set folder. Default: detected and logged.", choices=list(LAYOUTS)
    )
    dataset_config: str | None = arg(None, "Configuration of a Hub data set that has several.")
    dataset_revision: str | None = arg(None, "Branch, tag or commit of a Hub data set. Default: its main branch.")
    data_files: list[str] = arg([], "Glob patterns of the files to read from a Hub data set. Default: all.")
    column_mapping: dict = arg(
        {},
        "Column of each role in a Hub data set, if detection is wrong: {image: COLUMN, masks: COLUMN, phrase: "
        "COLUMN}.",
    )
    streaming: bool = arg(
        False,
        "Read training rows during training instead of converting all of them first; parquet files of the Hub are "
        "downloaded by row groups. The order of the rows is the same as without it.",
    )
    extra_datasets: list[str] = arg(
        [],
        "Folders or Hub ids whose training splits are mixed into training. Keys of Hub data sets, such as "
        "`dataset_config`, apply to `dataset_name` alone.",
    )
    mixture_weights: list[float] = arg(
        [], "Sampling weights of `dataset_name` and each of `extra_datasets`, in this order. Default: equal."
    )
    unseen_phrases: list[str] = arg(
        [],
        "Phrases that are held out: training never prompts them, and images that contain one are used for evaluation, "
        "where these phrases get metrics of their own (`_other`).",
    )
    replay: str | None = arg(
        None,
        "Folder or Hub id of a replay data set that is mixed into training for retention, such as the data of an "
        "earlier training run.",
    )
    replay_share: float = arg(
        0.25, "Fraction of `replay` among the training images, between 0 and 1, spread evenly over the batches."
    )
    dataset_license: str | None = arg(
        None,
        "Licence of the data for the model card. Default: read from the data set's Hub card, README or COCO file.",
    )
    train_split: str = arg("train", "Name of the split to train on.")
    eval_split: str = arg("validation", "Name of the split to evaluate on: validation or test.")
    validation_fraction: float = arg(
        0.1, "Fraction of the training images, 0 to 0.9, held out if the data set has no validation split."
    )
    max_train_samples: int | None = arg(
        None, "Number of training images to use, at least 1, from the first. Default: all."
    )
    max_eval_samples: int | None = arg(
        None, "Number of evaluation images to use, at least 1, from the first. Default: all."
    )
    on_bad_rows: str = arg(
        "error",
        "Handling of a row that is not valid. error: stop; skip: leave it out and list it at the end.",
        choices=["error", "skip"],
    )
    verify_images: bool = arg(True, "Decode every image once before training to find damaged files.")
    allow_outside_images: bool = arg(
        False,
        "Allow images outside the data set folder, given by `..`, an absolute path or a link; without it they are an "
        "error. Set it only for annotations that you trust.",
    )

    phrase_source: str = arg(
        "category",
        "Source of the phrases: category names, the annotations' noun_phrase fields, or both.",
        choices=["category", "noun_phrase", "both"],
    )
    noun_phrases: str = arg(
        "exhaustive",
        "Completeness of the annotations' noun_phrase labels. open: other instances may be unlabelled; exhaustive: "
        "all instances in a labelled image are labelled; closed: also, images without the label contain no instance.",
        choices=["open", "exhaustive", "closed"],
    )
    class_name: str | None = arg(
        None, "Class of all instances, for data without class names such as mask images and SA-1B."
    )
    class_names: str | None = arg(
        None, 'JSON, YAML or text file of class names for numeric classes: {"0": "road"} or a list.'
    )
    class_attribute: str | None = arg(None, "Region attribute that contains the class in VIA files.")
    mask_values: str | None = arg(
        None,
        "Meaning of the numbers in mask images. instances: one number per object; classes: one number per class, as "
        "one region; components: one number per class, whose connected parts are objects.",
        choices=list(MASK_VALUES),
    )
    phrase_map: str | None = arg(
        None,
        "YAML file that renames classes: `class: phrase`, `class: [phrase, synonym, …]`, or `class: null` to drop "
        "one.",
    )

    attribute_templates: str | None = arg(
        None,
        'YAML file that builds phrases from attributes: `templates` such as "{color} {label}", `synonyms` and '
        "`plurals`.",
    )

    crop_probability: float = arg(0.0, "Probability of a random crop, 0 to 1.")
    min_crop: float = arg(0.6, "Smallest side of a random crop as a fraction of the image's side, 0.05 to 1.")
    min_visible: float = arg(
        0.1,
        "Smallest visible fraction of an instance after a crop, 0 to 1; an instance below it is removed and its "
        "phrase becomes non-exhaustive.",
    )

    cache_views: int = arg(
        1,
        "Number of augmented views per training image in `feature_cache`, at least 1; epoch e uses view e modulo this "
        "number.",
    )

    scene_train_images: int = arg(20, "Number of training images of the synthetic scenes, at least 1.")
    scene_eval_images: int = arg(5, "Number of validation images of the synthetic scenes, at least 1.")
    scene_width: int = arg(160, "Width of the synthetic scenes in px, at least 16.")
    scene_height: int = arg(160, "Height of the synthetic scenes in px, at least 16.")
    scene_min_shapes: int = arg(2, "Minimum number of shapes per synthetic scene, at least 1.")
    scene_max_shapes: int = arg(5, "Maximum number of shapes per synthetic scene, at least `scene_min_shapes`.")
    scene_shapes: list[str] = arg(
        list(SHAPES),
        "Shapes in the synthetic scenes. Further shapes on which sam-ft/tiny was trained: oval, diamond, pentagon, "
        "trapezoid, dome, corner, hammer, drop, bolt, hut; new to it: star, heart, cross.",
    )
    scene_colors: list[str] = arg(list(COLORS), "Colours of the shapes in the synthetic scenes.")
    scene_fills: list[str] = arg(
        list(FILLS), "Fills of the shapes in the synthetic scenes: solid, outlined, striped, dotted."
    )
    scene_sizes: list[str] = arg(
        list(SIZES), "Sizes of the shapes in the synthetic scenes: tiny, small, medium, large."
    )
    scene_grounds: list[str] = arg(
        list(LIGHT_GROUNDS),
        "Backgrounds of the synthetic scenes: plain, gradient, checkered, ruled, speckled, night.",
    )
    scene_clutter: float = arg(2.0, "Mean number of unlabelled scribbles per synthetic scene, at least 0.")
    scene_cut_off: float = arg(
        0.15, "Fraction of shapes, 0 to 1, that may extend beyond the border of a synthetic scene."
    )
    scene_train_labels: list[str] | None = arg(
        None,
        "Shapes that are labelled in the training split, with `dataset_name: synthetic`. Default: all shapes in the "
        "scenes.",
    )
    scene_ramp: int = arg(
        0,
        "Number of training scenes over which the fraction of plain scenes falls from 1 to 0, with `dataset_name: "
        "synthetic-stream`; 0 draws no plain scenes.",
    )
    scene_shape_alone: float | None = arg(
        None,
        "Fraction of phrases, 0 to 1, that name the shape without attributes, with `dataset_name: synthetic-stream`. "
        "Default: one third.",
    )
    scene_seed: int = arg(0, "Random seed of the synthetic scenes.")

    def __post_init__(self):
        check_ranges(self)
        if self.cache_views > 1 and not self.feature_cache:
            raise ValueError(
                f"`cache_views` is {self.cache_views}, but there is no `feature_cache`. Set `feature_cache` to a "
                "folder, or leave `cache_views` out"
            )
        if self.replay and not 0 < self.replay_share < 1:
            raise ValueError(f"`replay_share` is {self.replay_share}; with `replay` it must lie between 0 and 1")
        if not self.replay and self.replay_share != default_of(type(self), "replay_share"):
            raise ValueError(
                f"`replay_share` is {self.replay_share}, but there is no `replay`, without which it has no effect. "
                "Set `replay` to a data set, or leave `replay_share` out"
            )
        self._refuse_scene_keys()

    def _refuse_scene_keys(self) -> None:
        """Raise `ValueError` if a key of synthetic scenes is set for another data set."""
        if self.dataset_name in (SYNTHETIC, SYNTHETIC_STREAM) and not self.annotation_file:
            return
        source = self.annotation_file or self.dataset_name
        for key in (field.name for field in dataclasses.fields(self) if field.name.startswith("scene_")):
            value = getattr(self, key)
            if value != default_of(type(self), key):
                raise ValueError(
                    f"`{key}` is {value}, but the data set is {str(source)!r}, for which it has no effect. Leave "
                    f"`{key}` out, or set `dataset_name: {SYNTHETIC}`"
                )

    probe_images = 0  # SAM 2 takes no phrases, so that there is no retention to measure
    scenes_folder = SYNTHETIC_FOLDER

    def make_dry(self, folder: str) -> None:
        """
        Reduce the data to a few images and move scenes and feature cache below a temporary folder.

        The feature cache is separate because a later run would refuse one that contains other images.

        Args:
            folder (`str`): Temporary folder of the dry run.
        """
        self.max_train_samples, self.max_eval_samples = min(self.max_train_samples or 8, 8), 2
        self.scenes_folder = f"{folder}/scenes"
        if self.feature_cache:
            self.feature_cache = f"{folder}/features"

    def places(self) -> list[str]:
        """Return the files, folders and Hub ids that a run reads."""
        sources = (
            self.annotation_file,
            self.image_folder,
            self.eval_annotation_file,
            self.eval_image_folder,
            self.dataset_name,
        )
        return [source for source in (*sources, *self.extra_datasets, self.replay) if source]

    def dataset(self) -> DatasetOptions:
        """Return the options that load the data set."""
        scene_values = {f.name: getattr(self, f"scene_{f.name}") for f in dataclasses.fields(SceneOptions)}
        scenes = SceneFiles(
            SceneOptions(**scene_values), self.scene_train_images, self.scene_eval_images, self.scene_train_labels
        )
        hub = HubSource(
            "", self.dataset_config, self.dataset_revision, self.data_files, self.column_mapping, self.streaming
        )
        return take(DatasetOptions, self, scenes=scenes, hub=hub)

    def reading(self) -> ReadOptions:
        """Return the options of the readers; reads `attribute_templates` and `phrase_map`."""
        templates = read_attribute_templates(self.attribute_templates) if self.attribute_templates else None
        phrase_map = read_phrase_map(self.phrase_map) if self.phrase_map else PhraseMap()
        return take(ReadOptions, self, phrase_map=phrase_map, attributes=templates)

    def transforms(self, resolution: int) -> TransformOptions:
        """
        Return the options of augmentation and resizing.

        Args:
            resolution (`int`): Side of the model's input in px.
        """
        return take(TransformOptions, self, resolution=resolution)
