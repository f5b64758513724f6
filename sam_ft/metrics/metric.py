"""Base class of `evaluate.Metric` classes that read COCO results."""

import datasets
import evaluate


class CocoMetric(evaluate.Metric):
    """
    Metric of COCO results against a ground truth; subclasses define `description`, `citation` and `_compute`.

    Examples:
        metric = CocoAveragePrecision()
        metric.add_batch(predictions=results)  # dicts with image_id, category_id, score, bbox, segmentation
        metric.compute(ground_truth=coco, kind="mask")["AP50"]
    """

    description = citation = ""

    def _info(self):
        rle = {"size": datasets.List(datasets.Value("int64")), "counts": datasets.Value("string")}
        result = {
            "image_id": datasets.Value("int64"),
            "category_id": datasets.Value("int64"),
            "score": datasets.Value("float64"),
            "bbox": datasets.List(datasets.Value("float64")),
            "segmentation": rle,
        }
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description="predictions: COCO results; compute(ground_truth=…, kind='mask' or 'box')",
            features=datasets.Features({"predictions": result}),
        )


def drop_null_fields(results: list[dict]) -> list[dict]:
    """Return the results without the missing fields that `evaluate` fills with null."""
    return [{name: value for name, value in result.items() if value is not None} for result in results]
