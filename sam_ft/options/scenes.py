"""Options of synthetic scenes, and the names of their attributes."""

from dataclasses import dataclass, field, replace

from .keys import check_choice, check_values, key


SHAPES = ("circle", "square", "triangle", "rectangle", "crescent", "arrow")
MORE_SHAPES = ("oval", "diamond", "pentagon", "trapezoid", "dome", "corner", "hammer", "drop", "bolt", "hut")
NEW_SHAPES = ("star", "heart", "cross")  # shapes of the demo, on which the packaged model was not trained
ALL_SHAPES = SHAPES + MORE_SHAPES + NEW_SHAPES
COLOR_NAMES = ("red", "orange", "yellow", "green", "blue", "purple", "black")
FILLS = ("solid", "outlined", "striped", "dotted")
SIZE_NAMES = ("tiny", "small", "medium", "large")
GROUNDS = ("plain", "gradient", "checkered", "ruled", "speckled", "night")
LIGHT_GROUNDS = GROUNDS[:5]


@dataclass
class SceneOptions:
    """
    Options of synthetic scenes.

    Attributes:
        width (`int`): Width, px.
        height (`int`): Height, px.
        min_shapes (`int`): Minimum number of objects.
        max_shapes (`int`): Maximum number of objects.
        shapes (`list[str]`): Shapes, of `ALL_SHAPES`.
        colors (`list[str]`): Colours, of `COLOR_NAMES`.
        fills (`list[str]`): Fills, of `FILLS`.
        sizes (`list[str]`): Sizes, of `SIZE_NAMES`.
        grounds (`list[str]`): Backgrounds, of `GROUNDS`.
        clutter (`float`): Mean number of scribbles, which no phrase refers to.
        cut_off (`float`): Share of objects that may extend beyond the image.
        ramp (`int`): Number of training rows over which the share of plain scenes decreases from 1 to 0. A model with
            random weights does not learn words from tens of thousands of full scenes alone.
        shape_alone (`float`, *optional*): Share of phrases with the shape as the only attribute, which are the
            hardest. Default: one third.
        seed (`int`): Random seed.
    """

    width: int = key(160, "Width of the synthetic scenes in px, at least 16.", name="scene_width", low=16)
    height: int = key(160, "Height of the synthetic scenes in px, at least 16.", name="scene_height", low=16)
    min_shapes: int = key(
        2, "Minimum number of shapes per synthetic scene, at least 1.", name="scene_min_shapes", low=1
    )
    max_shapes: int = key(
        5,
        "Maximum number of shapes per synthetic scene, at least `scene_min_shapes`.",
        name="scene_max_shapes",
        low=1,
    )
    shapes: list[str] = key(
        list(SHAPES),
        "Shapes in the synthetic scenes. Further shapes on which sam-ft/tiny was trained: "
        f"{', '.join(MORE_SHAPES)}; new to it: {', '.join(NEW_SHAPES)}.",
        name="scene_shapes",
        choices=ALL_SHAPES,
    )
    colors: list[str] = key(
        list(COLOR_NAMES),
        f"Colours of the shapes in the synthetic scenes: {', '.join(COLOR_NAMES)}.",
        name="scene_colors",
        choices=COLOR_NAMES,
    )
    fills: list[str] = key(
        list(FILLS),
        f"Fills of the shapes in the synthetic scenes: {', '.join(FILLS)}.",
        name="scene_fills",
        choices=FILLS,
    )
    sizes: list[str] = key(
        list(SIZE_NAMES),
        f"Sizes of the shapes in the synthetic scenes: {', '.join(SIZE_NAMES)}.",
        name="scene_sizes",
        choices=SIZE_NAMES,
    )
    grounds: list[str] = key(
        list(LIGHT_GROUNDS),
        f"Backgrounds of the synthetic scenes: {', '.join(GROUNDS)}.",
        name="scene_grounds",
        choices=GROUNDS,
    )
    clutter: float = key(
        2.0, "Mean number of unlabelled scribbles per synthetic scene, at least 0.", name="scene_clutter", low=0
    )
    cut_off: float = key(
        0.15,
        "Fraction of shapes, 0 to 1, that may extend beyond the border of a synthetic scene.",
        name="scene_cut_off",
        low=0,
        high=1,
    )
    ramp: int = key(
        0,
        "Number of training scenes over which the fraction of plain scenes falls from 1 to 0, with `dataset_name: "
        "synthetic-stream`; 0 draws no plain scenes.",
        name="scene_ramp",
        low=0,
    )
    shape_alone: float | None = key(
        None,
        "Fraction of phrases, 0 to 1, that name the shape without attributes, with `dataset_name: synthetic-stream`. "
        "Default: one third.",
        name="scene_shape_alone",
        low=0,
        high=1,
    )
    seed: int = key(0, "Random seed of the synthetic scenes.", name="scene_seed", low=0)

    def __post_init__(self) -> None:
        check_values(self)
        if self.min_shapes > self.max_shapes:
            raise ValueError(
                f"`scene_min_shapes` must be at most `scene_max_shapes`, which is {self.max_shapes}, got "
                f"{self.min_shapes}"
            )

    def to_plain(self) -> "SceneOptions":
        """Return the same options for plain scenes: few solid objects, none of them small, on a plain background."""
        return replace(
            self,
            min_shapes=1,
            max_shapes=min(4, self.max_shapes),
            fills=["solid"],
            sizes=["medium", "large"],
            grounds=["plain"],
            clutter=0.0,
            cut_off=0.0,
        )


@dataclass
class SceneFiles:
    """
    Options of a data set of scenes in files.

    Attributes:
        scenes (`SceneOptions`): Options of the scenes.
        num_train (`int`): Number of training images.
        num_validation (`int`): Number of validation images.
        train_labels (`list[str]`, *optional*): Shapes that are labelled in the training split; its images contain the
            others unlabelled. The validation split labels all shapes. Default: all shapes.
    """

    scenes: SceneOptions = field(default_factory=SceneOptions)
    num_train: int = key(
        20, "Number of training images of the synthetic scenes, at least 1.", name="scene_train_images", low=1
    )
    num_validation: int = key(
        5, "Number of validation images of the synthetic scenes, at least 1.", name="scene_eval_images", low=1
    )
    train_labels: list[str] | None = key(
        None,
        "Shapes that are labelled in the training split, with `dataset_name: synthetic`. Default: all shapes in the "
        "scenes.",
        name="scene_train_labels",
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.train_labels is not None:
            check_choice("scene_train_labels", self.train_labels, list(dict.fromkeys(self.scenes.shapes)))
