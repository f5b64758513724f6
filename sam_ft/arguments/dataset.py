"""Keys of the data that SAM 3 and SAM 2 share: source, splits, reading and augmentation."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..options.augmentation import TransformOptions
from ..options.data import SYNTHETIC, SYNTHETIC_FOLDER, SYNTHETIC_STREAM, DatasetOptions, HubSource, ReadOptions
from ..options.keys import build_options, get_default, get_keys, key
from ..options.scenes import SceneFiles, SceneOptions
from .base import Keys, with_keys_of


@with_keys_of(DatasetOptions, HubSource, ReadOptions)
class DatasetArguments(Keys):
    """Source and splits of the data, and conversion of its files to rows."""

    key_topic: ClassVar[str] = "Data"


@with_keys_of(SceneFiles, SceneOptions)
class SceneArguments(Keys):
    """Synthetic scenes."""

    key_topic: ClassVar[str] = "Synthetic scenes"


@with_keys_of(TransformOptions)
class AugmentationArguments(Keys):
    """Augmentation of the training images."""

    key_topic: ClassVar[str] = "Prompts and augmentation"


@dataclass
class SharedDataArguments(AugmentationArguments, SceneArguments, DatasetArguments):
    """Source, splits, reading and augmentation of the data: keys that SAM 3 and SAM 2 share."""

    key_topic: ClassVar[str] = "Data"
    scenes_folder = SYNTHETIC_FOLDER

    phrase_map: str | None = key(
        None,
        "YAML file that renames classes: `class: phrase`, `class: [phrase, synonym, …]`, or `class: null` to drop "
        "one.",
    )
    attribute_templates: str | None = key(
        None,
        'YAML file that builds phrases from attributes: `templates` such as "{color} {label}", `synonyms` and '
        "`plurals`.",
    )
    dataset_license: str | None = key(
        None,
        "Licence of the data for the model card. Default: read from the data set's Hub card, README or COCO file.",
    )
    cache_views: int = key(
        1,
        "Number of augmented views per training image in `feature_cache`, at least 1; epoch e uses view e modulo this "
        "number.",
        low=1,
    )
    cache_engine: str = key(
        "processes",
        "Engine that computes `feature_cache`. processes: those of the run; ray: actors of the Ray cluster at "
        "RAY_ADDRESS, or of this machine, which share the folder.",
        choices=("processes", "ray"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache_engine != "processes" and not self.feature_cache:
            raise ValueError(
                f"`cache_engine` is {self.cache_engine}, but there is no `feature_cache`. Set `feature_cache` to a "
                "folder, or leave `cache_engine` out"
            )
        if self.cache_views > 1 and not self.feature_cache:
            raise ValueError(
                f"`cache_views` is {self.cache_views}, but there is no `feature_cache`. Set `feature_cache` to a "
                "folder, or leave `cache_views` out"
            )
        if not self.replay and self.replay_share != get_default(get_keys(DatasetOptions)["replay_share"]):
            raise ValueError(
                f"`replay_share` is {self.replay_share}, but there is no `replay`, without which it has no effect. "
                "Set `replay` to a data set, or leave `replay_share` out"
            )
        self._refuse_scene_keys()
        build_options(SceneFiles, self, scenes=build_options(SceneOptions, self))

    @property
    def source_name(self) -> str | None:
        """Path or name of the training data: that of `annotation_file`, if it is set, or of `dataset_name`."""
        if not self.annotation_file:
            return self.dataset_name
        in_folder = Path(self.dataset_name or "", self.annotation_file)
        return str(in_folder) if in_folder.is_file() else self.annotation_file

    def _refuse_scene_keys(self) -> None:
        """Raise `ValueError` if a key of synthetic scenes is set for another data set."""
        if self.dataset_name in (SYNTHETIC, SYNTHETIC_STREAM) and not self.annotation_file:
            return
        for name, declared in get_keys(SceneArguments).items():
            value = getattr(self, name)
            if value != get_default(declared):
                raise ValueError(
                    f"`{name}` is {value}, but the data set is {str(self.source_name)!r}, for which it has no "
                    f"effect. Leave `{name}` out, or set `dataset_name: {SYNTHETIC}`"
                )

    def reduce_to_dry_run(self, folder: str) -> None:
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
