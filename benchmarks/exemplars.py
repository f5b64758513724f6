"""Benchmark of exemplars: detection by text, by a box in the same image, and by boxes in reference images.

    python benchmarks/exemplars.py                 # sam-ft/tiny, 16 scenes with and 16 without each shape
    python benchmarks/exemplars.py --scenes 4      # fewer scenes

A scene with a shape shows it at least twice; one of its objects is the exemplar of the same image, and is not scored
in any row. Reference images are other scenes. Shapes that the model was trained on and new ones are scored separately:
mask AP50 on the scenes that show the shape, and the share of the scenes without it that have a false detection at 0.5.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from sam_ft import Exemplars, PredictOptions, Sam3Predictor, SceneOptions
from sam_ft.data.synthetic.scenes import draw_scene
from sam_ft.inference.references import ReferenceImage
from sam_ft.metrics.average_precision import coco_average_precision
from sam_ft.ops.masks import mask_area, mask_box_xywh
from sam_ft.options.model_names import TINY
from sam_ft.options.scenes import NEW_SHAPES, SHAPES
from sam_ft.utils.console import progress_bar


SIDE, SCORE = 320, 0.5
NUM_REFERENCES = 5
# Row of the table: method of the references or `same` for a box in the same image, and number of reference images.
METHODS = {
    "none": (None, 0),
    "a box in the same image": ("same", 0),
    "1 reference, tokens": ("tokens", 1),
    "3 references, tokens": ("tokens", 3),
    "5 references, tokens": ("tokens", 5),
    "1 reference, canvas": ("canvas", 1),
    "3 references, canvas": ("canvas", 3),
    "5 references, canvas": ("canvas", 5),
}


@dataclass
class Scene:
    """
    Scene for one shape.

    Attributes:
        image (`PIL.Image.Image`): The image.
        masks (`list[str]`): Masks of the shape's objects, `counts` of COCO RLEs; the first is the exemplar.
    """

    image: object
    masks: list[str]

    def exemplars(self) -> Exemplars:
        """Return the box of the first object as a positive exemplar."""
        return Exemplars([mask_box_xywh(self.masks[0], SIDE, SIDE)], [1])


def draw_scenes(shape: str, number: int, least: int, seed: int) -> list[Scene]:
    """
    Draw scenes as in the demo.

    Args:
        shape (`str`): Shape.
        number (`int`): Number of scenes.
        least (`int`): Minimum number of objects of the shape; 0 for scenes without it.
        seed (`int`): Random seed.
    """
    others = [other for other in (*SHAPES, *NEW_SHAPES) if other != shape]
    options = SceneOptions(
        width=SIDE, height=SIDE, min_shapes=max(least, 1), max_shapes=least + 2, fills=["solid"],
        sizes=["medium", "large"], grounds=["night", "gradient", "speckled"], clutter=0.0, cut_off=0.0,
        colors=["red", "orange", "yellow", "green", "blue", "purple"],
        shapes=others + [shape] * (2 * len(others) * (least > 0)),
    )  # fmt: skip
    rng, scenes = np.random.default_rng(seed), []
    while len(scenes) < number:
        image, objects = draw_scene(rng, options)
        masks = [item.rle() for item in objects if item.shape == shape]
        if len(masks) >= least:
            scenes.append(Scene(image, masks))
    return scenes


def compute_precision(scenes: dict[str, list[Scene]], results: list[dict]) -> float:
    """Compute the mask AP50 in percent of results whose images are numbered through all shapes."""
    images, annotations = [], []
    for category, shown in enumerate(scenes.values(), start=1):
        for scene in shown:
            images.append({"id": len(images) + 1, "width": SIDE, "height": SIDE})
            annotations += [
                {
                    "id": len(annotations) + i + 1,
                    "image_id": len(images),
                    "category_id": category,
                    "segmentation": {"size": [SIDE, SIDE], "counts": mask},
                    "bbox": mask_box_xywh(mask, SIDE, SIDE),
                    "area": mask_area(mask, SIDE, SIDE),
                    "iscrowd": int(i == 0),  # The exemplar of the same image is not scored.
                }
                for i, mask in enumerate(scene.masks)
            ]
    categories = [{"id": i + 1, "name": shape} for i, shape in enumerate(scenes)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return 100 * coco_average_precision(truth, results, "mask")["AP50"]


def measure(
    predictor: Sam3Predictor, data: dict[str, tuple[list[Scene], list[Scene], list[Scene]]], method: str, phrase: bool
) -> tuple[float, float | None]:
    """
    Measure one row of the table.

    Args:
        predictor (`Sam3Predictor`): Predictor.
        data (`dict[str, tuple[list[Scene], list[Scene], list[Scene]]]`): Scenes with a shape, scenes without it, and
            reference scenes, by shape.
        method (`str`): Key of `METHODS`.
        phrase (`bool`): Whether the shape is named too.

    Returns:
        `tuple[float, float | None]`: Mask AP50, and the share of scenes without the shape that have a false detection,
            both in percent; no share for a box in the same image, which needs the object.
    """
    kind, number = METHODS[method]
    results, false, num_absent, image_id = [], 0, 0, 0
    for category, (shape, (present, absent, references)) in enumerate(data.items(), start=1):
        phrases = [shape] if phrase else []
        predictor.options = PredictOptions(
            score_threshold=0.05,
            exemplar_method=kind if kind in ("tokens", "canvas") else "tokens",
            views_per_batch=16,
        )
        reference_images = [ReferenceImage(s.image, s.exemplars()) for s in references[:number]] or None
        boxes = [scene.exemplars() for scene in present] if kind == "same" else None
        for prediction in predictor([s.image for s in present], phrases, boxes, reference_images):
            image_id += 1
            for detection in next(iter(prediction.detections.values())):
                results.append({"image_id": image_id, "category_id": category, **detection})
        if kind != "same":
            predictions = predictor([s.image for s in absent], phrases, None, reference_images)
            false += sum(any(d["score"] >= SCORE for d in next(iter(p.detections.values()))) for p in predictions)
            num_absent += len(absent)
    precision = compute_precision({shape: scenes[0] for shape, scenes in data.items()}, results)
    return precision, 100 * false / num_absent if num_absent else None


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", default=TINY)
    parser.add_argument("--scenes", type=int, default=16, help="scenes with and scenes without each shape")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes")
    args = parser.parse_args()
    predictor = Sam3Predictor.from_pretrained(args.model_name_or_path)
    data = {
        shape: (
            draw_scenes(shape, args.scenes, 2, seed),
            draw_scenes(shape, args.scenes, 0, 100 + seed),
            draw_scenes(shape, NUM_REFERENCES, 1, 200 + seed),
        )
        for seed, shape in enumerate((*SHAPES, *NEW_SHAPES), start=1000 * args.seed)
    }
    groups = [{shape: data[shape] for shape in shapes} for shapes in (SHAPES, NEW_SHAPES)]
    rows = [(method, phrase) for phrase in (True, False) for method in METHODS if phrase or METHODS[method][0]]
    lines = ["| prompt | exemplars | AP50 known | AP50 new | false known | false new |", "|---|---|---|---|---|---|"]
    for method, phrase in progress_bar(rows):
        (known, known_false), (new, new_false) = (measure(predictor, group, method, phrase) for group in groups)
        false = " | ".join("–" if value is None else f"{value:.0f} %" for value in (known_false, new_false))
        lines.append(f"| {'phrase' if phrase else 'boxes alone'} | {method} | {known:.1f} | {new:.1f} | {false} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
