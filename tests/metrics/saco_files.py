"""Random SA-Co files with non-exhaustive pairs and inaccurate, duplicate, missing and false detections."""

import json
from pathlib import Path

import numpy as np

from sam_ft.ops.masks import encode_mask, mask_area, mask_box_xywh


HEIGHT, WIDTH = 48, 64


def disc(rng, center=None, radius=None) -> np.ndarray:
    cy, cx = rng.uniform(8, 40, 2) if center is None else center
    radius = rng.uniform(3, 14) if radius is None else radius
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    return (ys - cy) ** 2 + (xs - cx) ** 2 <= radius**2


def shape_of(mask: np.ndarray) -> dict:
    counts = encode_mask(mask)
    return {
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
        "bbox": mask_box_xywh(counts, HEIGHT, WIDTH),
        "area": float(mask_area(counts, HEIGHT, WIDTH)),
    }


def make(seed: int, annotators: int = 1, crowds: bool = False) -> tuple[list[dict], list[dict]]:
    """Build the ground truth of each annotator, and results."""
    rng = np.random.default_rng(seed)
    truths = [
        {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]} for _ in range(annotators)
    ]
    results = []
    for number in range(int(rng.integers(4, 12))):
        centers = rng.uniform(8, 40, (int(rng.integers(0, 4)), 2))
        radii = rng.uniform(3, 14, len(centers))
        for truth in truths:
            truth["images"].append(
                {
                    "id": number,
                    "file_name": f"{number}.jpg",
                    "text_input": f"thing {number}",
                    "height": HEIGHT,
                    "width": WIDTH,
                    "is_instance_exhaustive": int(rng.random() < 0.85 or number == 0),
                }
            )
            for center, radius in zip(centers, radii, strict=True):
                if rng.random() < 0.9:  # annotators miss some objects
                    truth["annotations"].append(
                        {
                            "id": len(truth["annotations"]) + 1,
                            "image_id": number,
                            "category_id": 1,
                            "iscrowd": int(crowds and rng.random() < 0.2),
                            **shape_of(disc(rng, center + rng.normal(0, 0.7, 2), radius * rng.uniform(0.85, 1.15))),
                        }
                    )
        for center, radius in zip(centers, radii, strict=True):
            for _ in range(int(rng.integers(0, 3))):
                detection = disc(rng, center + rng.normal(0, 1.5, 2), radius * rng.uniform(0.7, 1.3))
                results.append(
                    {"image_id": number, "category_id": 1, "score": float(rng.random()), **shape_of(detection)}
                )
        if rng.random() < 0.3:
            results.append({"image_id": number, "category_id": 1, "score": float(rng.random()), **shape_of(disc(rng))})
    results = [result for result in results if result["area"] > 0]
    return truths, results


def save(folder: Path, truths: list[dict], results: list[dict]) -> tuple[list[str], str]:
    files = [folder / f"truth-{i}.json" for i in range(len(truths))]
    for file, truth in zip(files, truths, strict=True):
        file.write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return [str(file) for file in files], str(folder / "results.json")
