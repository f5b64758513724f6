"""Keys of the data that any model is trained on."""

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
    """What is read: SAM 3 and SAM 2 alike."""

    dataset_name: str | None = arg(
        SYNTHETIC,
        "Folder of a data set in any layout (README, Your own data), or a data set of the Hub, owner/name; `synthetic`: scenes of coloured shapes, each set written once to a folder below data/test_shapes; "
        "`synthetic-stream`: such scenes drawn when asked for, with phrases of attributes.",
    )
    annotation_file: str | None = arg(None, "One COCO file, instead of a tree.")
    image_folder: str | None = arg(None, "Images of `annotation_file`. Default: the file's own folder.")
    eval_annotation_file: str | None = arg(None, "COCO file for evaluation, beside `annotation_file`.")
    eval_image_folder: str | None = arg(None, "Images of `eval_annotation_file`. Default: `image_folder`.")
    layout: str | None = arg(None, "Layout of the folder. Default: detected, and printed.", choices=list(LAYOUTS))
    dataset_config: str | None = arg(None, "Hub: configuration of a data set that has several.")
    dataset_revision: str | None = arg(None, "Hub: branch, tag or commit.")
    data_files: list[str] = arg([], "Hub: patterns of the files to read, instead of all.")
    column_mapping: dict = arg(
        {}, "Hub: role -> column, where detection is wrong: {image: COLUMN, masks: COLUMN, phrase: COLUMN}."
    )
    streaming: bool = arg(
        False,
        "Make training rows when they are asked for: nothing is converted or held beforehand, parquet files of the Hub are fetched by row "
        "groups. Order, workers, ranks and resuming change nothing.",
    )
    extra_datasets: list[str] = arg(
        [],
        "Other folders or Hub ids whose training splits are trained along. The keys of Hub data sets are `dataset_name`'s alone.",
    )
    mixture_weights: list[float] = arg([], "Chance of `dataset_name` and of each of `extra_datasets`. Default: equal.")
    unseen_phrases: list[str] = arg(
        [],
        "Phrases that training neither shows nor asks: images that show one are evaluated instead, and scored apart (`_other`).",
    )
    replay: str | None = arg(
        None,
        "Folder or Hub id of a data set that is trained along so that nothing is forgotten: such as what the model was trained on before.",
    )
    replay_share: float = arg(0.25, "Share of `replay` in what is trained on, spread evenly over the batches.")
    dataset_license: str | None = arg(
        None, "Licence of the data, for the model card. Default: what its Hub card, README or COCO file says."
    )
    train_split: str = arg("train", "Split to train on.")
    eval_split: str = arg("validation", "Split to evaluate on: validation or test.")
    validation_fraction: float = arg(0.1, "Share of the training images held out where there is no validation split.")
    max_train_samples: int | None = arg(None, "Use the first so many training images.")
    max_eval_samples: int | None = arg(None, "Use the first so many evaluation images.")
    on_bad_rows: str = arg(
        "error", "A row that cannot be used: stop, or leave it out and list it at the end.", choices=["error", "skip"]
    )
    verify_images: bool = arg(True, "Decode every image once before training, to find damaged files.")
    allow_outside_images: bool = arg(
        False,
        "Read images that lie outside the data set's folder: listed by a path with `..`, an absolute path, or through "
        "a link. Set it for annotations that you trust; else such an image is an error.",
    )

    phrase_source: str = arg("category", "Where phrases come from.", choices=["category", "noun_phrase", "both"])
    noun_phrases: str = arg(
        "exhaustive",
        "What annotations' noun_phrase promises: open (others may be unlabelled), exhaustive (all instances in the image "
        "are labelled), closed (images without it do not show it).",
        choices=["open", "exhaustive", "closed"],
    )
    class_name: str | None = arg(None, "What all instances are, where the data name no class: mask images, SA-1B.")
    class_names: str | None = arg(None, 'File of names for classes that are numbers: {"0": "road"} or a list.')
    class_attribute: str | None = arg(None, "VIA: the region attribute that holds the class.")
    mask_values: str | None = arg(
        None,
        "What the numbers of mask images are: instances (one object each), classes (all of a class at once), components (classes, "
        "whose connected parts are objects).",
        choices=list(MASK_VALUES),
    )
    phrase_map: str | None = arg(
        None, "YAML file `class: phrase`, `class: [phrase, synonym, …]` or `class: null` to drop a class."
    )

    attribute_templates: str | None = arg(
        None,
        'YAML file of `templates` such as "{color} {label}", with `synonyms` and `plurals`: phrases from attributes.',
    )

    crop_probability: float = arg(0.0, "Random crop.")
    min_crop: float = arg(0.6, "Smallest crop, as a share of each side.")
    min_visible: float = arg(0.1, "An instance with less of it left counts as gone, its phrase as not exhaustive.")

    cache_views: int = arg(1, "Augmented views of each training image in the cache; epoch e sees view e modulo this.")

    scene_train_images: int = arg(20, "Synthetic scenes: training images.")
    scene_eval_images: int = arg(5, "Synthetic scenes: validation images.")
    scene_width: int = arg(160, "Synthetic scenes: width in px.")
    scene_height: int = arg(160, "Synthetic scenes: height in px.")
    scene_min_shapes: int = arg(2, "Synthetic scenes: fewest shapes an image.")
    scene_max_shapes: int = arg(5, "Synthetic scenes: most shapes an image.")
    scene_shapes: list[str] = arg(
        list(SHAPES),
        "Synthetic scenes: shapes that are drawn. Others that the embedded model knows: oval, diamond, pentagon, trapezoid, dome, "
        "corner, hammer, drop, bolt, hut. New to it: star, heart, cross.",
    )
    scene_colors: list[str] = arg(list(COLORS), "Synthetic scenes: colours.")
    scene_fills: list[str] = arg(list(FILLS), "Synthetic scenes: solid, outlined, striped, dotted.")
    scene_sizes: list[str] = arg(list(SIZES), "Synthetic scenes: tiny, small, medium, large.")
    scene_grounds: list[str] = arg(
        list(LIGHT_GROUNDS), "Synthetic scenes: plain, gradient, checkered, ruled, speckled, night."
    )
    scene_clutter: float = arg(2.0, "Synthetic scenes: mean number of scribbles that no phrase names.")
    scene_cut_off: float = arg(0.15, "Synthetic scenes: share of things that may reach over the edge.")
    scene_train_labels: list[str] | None = arg(
        None, "`synthetic`: shapes that the training split labels. Default: all that are drawn."
    )
    scene_ramp: int = arg(
        0, "`synthetic-stream`: over so many training scenes the share of plain ones falls from all to none."
    )
    scene_shape_alone: float | None = arg(
        None, "`synthetic-stream`: share of phrases that name the shape alone, the hardest. Default: a third."
    )
    scene_seed: int = arg(0, "Synthetic scenes: another number draws other scenes.")

    def __post_init__(self):
        check_ranges(self)
        if self.cache_views > 1 and not self.feature_cache:
            raise ValueError(f"`cache_views` is {self.cache_views}, but there is no `feature_cache` to keep them in")
        if self.replay and not 0 < self.replay_share < 1:
            raise ValueError(f"`replay_share` is {self.replay_share}; with `replay` it lies between 0 and 1")
        if not self.replay and self.replay_share != default_of(type(self), "replay_share"):
            raise ValueError(
                f"`replay_share` is {self.replay_share}, but there is no `replay`, without which it has no effect. "
                "Set `replay` to a data set, or leave `replay_share` out"
            )
        self._refuse_scene_keys()

    def _refuse_scene_keys(self) -> None:
        """Raise `ValueError` where a key of synthetic scenes is set and the data are others."""
        if self.dataset_name in (SYNTHETIC, SYNTHETIC_STREAM) and not self.annotation_file:
            return
        source = self.annotation_file or self.dataset_name
        for key in (field.name for field in dataclasses.fields(self) if field.name.startswith("scene_")):
            value = getattr(self, key)
            if value != default_of(type(self), key):
                raise ValueError(
                    f"`{key}` is {value}, but the data are {str(source)!r}, for which it has no effect. Leave `{key}` "
                    f"out, or set `dataset_name: {SYNTHETIC}`"
                )

    probe_images = 0  # phrases are asked of SAM 3 alone
    scenes_folder = SYNTHETIC_FOLDER

    def make_dry(self, folder: str) -> None:
        """A few images, and a feature cache of its own: the run's would be refused with those of a dry run in it."""
        self.max_train_samples, self.max_eval_samples = min(self.max_train_samples or 8, 8), 2
        self.scenes_folder = f"{folder}/scenes"
        if self.feature_cache:
            self.feature_cache = f"{folder}/features"

    def places(self) -> list[str]:
        """Files and folders that are read."""
        given = (
            self.annotation_file,
            self.image_folder,
            self.eval_annotation_file,
            self.eval_image_folder,
            self.dataset_name,
        )
        return [place for place in (*given, *self.extra_datasets, self.replay) if place]

    def dataset(self) -> DatasetOptions:
        drawn = {f.name: getattr(self, f"scene_{f.name}") for f in dataclasses.fields(SceneOptions)}
        scenes = SceneFiles(
            SceneOptions(**drawn), self.scene_train_images, self.scene_eval_images, self.scene_train_labels
        )
        hub = HubSource(
            "", self.dataset_config, self.dataset_revision, self.data_files, self.column_mapping, self.streaming
        )
        return take(DatasetOptions, self, scenes=scenes, hub=hub)

    def reading(self) -> ReadOptions:
        templates = read_attribute_templates(self.attribute_templates) if self.attribute_templates else None
        phrase_map = read_phrase_map(self.phrase_map) if self.phrase_map else PhraseMap()
        return take(ReadOptions, self, phrase_map=phrase_map, attributes=templates)

    def transforms(self, resolution: int) -> TransformOptions:
        return take(TransformOptions, self, resolution=resolution)
