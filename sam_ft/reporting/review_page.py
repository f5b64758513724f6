"""Page of a label review in one self-contained file: findings by falling score, with picture, label and prediction."""

from collections import Counter
from dataclasses import dataclass

from datasets import Dataset
from PIL import Image

from ..data.row_schema import to_rgb
from ..data.safe_text import to_printable
from ..metrics.label_findings import LabelFinding
from ..metrics.label_overlap import MATCH_IOU, Calibration, ReviewedImage, measure_overlaps
from ..metrics.label_review import (
    BAD_BOUNDARY,
    DUPLICATE,
    KINDS,
    MERGED_OR_SPLIT,
    MISSING,
    SPURIOUS,
    WRONG_PHRASE,
)
from ..utils.console import progress_bar
from .charts import COLORS, Series, column_chart
from .crops import Window, draw_crop, window_around
from .figures import PhraseColors, to_figure
from .pictures import Panel
from .row_pictures import ERRORS
from .template_rendering import render_template


SHOWN_SHARE = 0.5  # share of a phrase's mean support from which on a detection is drawn
_CONTEXT, _MIN_SIDE = 3.0, 96  # side of the pictures relative to the object, and in px of the image
_WHOLE_SHARE = 0.7  # share of the image's long side from which on the whole image is drawn
_MAX_SIDE = 480  # px of a picture on the page
_BINS = 10  # of the chart of scores
KIND_TITLES = {
    MISSING: "Missing object",
    SPURIOUS: "Spurious object",
    WRONG_PHRASE: "Wrong phrase",
    BAD_BOUNDARY: "Bad boundary",
    MERGED_OR_SPLIT: "Merged or split instances",
    DUPLICATE: "Near-duplicate label",
}


def describe_remedy(finding: LabelFinding) -> str:
    """Describe what the prediction contradicts, and what to do, in one or two sentences."""
    phrase, proposal = finding.phrase, finding.proposal
    if finding.kind == MISSING and finding.bbox is None:
        return f"{phrase!r} is predicted to be in this image, without a location. Look for it, and label it."
    texts = {
        MISSING: f"{phrase!r} is predicted here, and there is no label. Label it.",
        SPURIOUS: f"No object is predicted at this label of {phrase!r}. Delete it, or keep it if the object is there.",
        BAD_BOUNDARY: f"The predicted outline of this {phrase!r} differs. Correct the outline.",
        DUPLICATE: f"Two labels of {phrase!r} are on one object. Delete one of them.",
    }
    if finding.kind == WRONG_PHRASE:
        other = "another phrase" if proposal is None else repr(proposal["phrase"])
        return f"The label is {phrase!r}, the prediction {other}. Change the phrase."
    if finding.kind == MERGED_OR_SPLIT:
        if proposal is None:
            return f"This label of {phrase!r} covers several predicted objects. Label each of them."
        return f"Several labels of {phrase!r} lie on one predicted object. Merge them."
    return texts[finding.kind]


@dataclass
class ReviewPage:
    """
    Page of a label review.

    Attributes:
        findings (`list[LabelFinding]`): Findings, highest score first.
        images (`dict[str, ReviewedImage]`): Labels and predictions by example.
        rows (`datasets.Dataset`): Rows with the images.
        calibration (`Calibration`): Statistics of all images.
        title (`str`): Title of the page.
        notes (`list[str]`): Assumptions and limits.
        names (`dict[str, str]`): Split and image file of each example.
    """

    findings: list[LabelFinding]
    images: dict[str, ReviewedImage]
    rows: Dataset
    calibration: Calibration
    title: str
    notes: list[str]
    names: dict[str, str]

    def __post_init__(self) -> None:
        counts: Counter = Counter(label["phrase"] for image in self.images.values() for label in image.labels)
        texts = sorted(counts, key=lambda text: (-counts[text], text))
        others = {d["phrase"] for image in self.images.values() for d in image.detections} | {
            finding.phrase for finding in self.findings
        }
        self.colors = PhraseColors([*texts, *sorted(others - counts.keys())])
        self.numbers = {name: i for i, name in enumerate(self.rows["example_id"][:])}

    def render(self, max_findings: int) -> str:
        """
        Render the page.

        Args:
            max_findings (`int`): Maximum number of findings with pictures.

        Returns:
            `str`: HTML document.
        """
        shown = self.findings[:max_findings]
        bar = progress_bar(shown, total=len(shown), caption="drawing pictures")
        entries = [self._entry(rank, finding) for rank, finding in enumerate(bar, 1)]
        counts = Counter(finding.kind for finding in self.findings)
        used = {number for entry in entries for number in (c["number"] for c in entry["figure"]["classes"])}
        return render_template(
            "review.html.j2",
            title=self.title,
            num_images=len(self.images),
            num_labels=sum(len(image.labels) for image in self.images.values()),
            notes=[to_printable(note) for note in self.notes],
            kinds=[
                {"name": kind, "title": KIND_TITLES[kind], "color": COLORS[i], "number": counts[kind]}
                for i, kind in enumerate(KINDS)
            ],
            classes=[d for d in map(self.colors.describe, self.colors.phrases) if d["number"] in used],
            chart=self._chart() if self.findings else None,
            entries=entries,
            more=len(self.findings) - len(shown),
        )

    def _chart(self) -> dict:
        """Return the chart of the scores of all findings."""
        bins = [min(int(finding.score * _BINS), _BINS - 1) for finding in self.findings]
        first = min(bins)
        counts = Counter((finding.kind, i) for finding, i in zip(self.findings, bins, strict=True))
        present = [(i, kind) for i, kind in enumerate(KINDS) if any(f.kind == kind for f in self.findings)]
        series = [
            Series(KIND_TITLES[kind], COLORS[i], [counts[kind, b] for b in range(first, _BINS)]) for i, kind in present
        ]
        labels = [f"{b / _BINS:.1f}–{(b + 1) / _BINS:.1f}" for b in range(first, _BINS)]
        return column_chart("Scores of the findings", "findings", labels, series)

    def _entry(self, rank: int, finding: LabelFinding) -> dict:
        panels, texts = self._draw(finding)
        color = COLORS[KINDS.index(finding.kind)]
        name = to_printable(self.names[finding.example_id])
        return {
            "rank": rank,
            "id": finding.id,
            "kind": finding.kind,
            "title": KIND_TITLES[finding.kind],
            "color": color,
            "score": f"{finding.score:.2f}",
            "remedy": to_printable(describe_remedy(finding)),
            "scores": [
                {"title": KIND_TITLES[kind], "value": f"{finding.scores[kind]:.2f}"}
                for kind in KINDS
                if kind in finding.scores
            ],
            "figure": to_figure(panels, name, self.colors.list_classes(texts)),
        }

    def _draw(self, finding: LabelFinding) -> tuple[list[Panel], list[str]]:
        """Draw image, labels and predictions around a finding, without pictures if the image cannot be read."""
        reviewed = self.images[finding.example_id]
        proposal = finding.proposal if finding.proposal is not None and finding.instance is not None else None
        boxes = [] if finding.bbox is None else [finding.bbox, *([proposal["bbox"]] if proposal else [])]
        try:
            image = to_rgb(self.rows[self.numbers[finding.example_id]]["image"])
        except ERRORS:
            return [], [finding.phrase]
        window = _choose_window(boxes, image.size)
        labels = [(label["phrase"], *_region(label), None) for label in reviewed.labels]
        shown = [d for d in reviewed.detections if self._is_shown(d, finding)]
        detections = [(d["phrase"], *_region(d), d["score"]) for d in _without_repeated(shown)]
        marks = boxes[:1]
        panels: list[Panel] = []
        for caption, instances in (("image", []), ("labels", labels), ("prediction", detections)):
            picture = draw_crop(image, instances, self.colors.rgb, window, marks)
            picture.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
            panels.append((caption, picture))
        return panels, [finding.phrase, *([finding.proposal["phrase"]] if finding.proposal else [])]

    def _is_shown(self, detection: dict, finding: LabelFinding) -> bool:
        """Return whether a detection is drawn: those with a usual score of their phrase, and the proposal."""
        usual = self.calibration.confidence.get(detection["phrase"], 1.0)
        proposal = finding.proposal or {}
        is_proposed = detection["phrase"] == proposal.get("phrase") and detection["score"] == proposal.get("score")
        return is_proposed or detection["score"] >= SHOWN_SHARE * usual


def _region(region: dict) -> tuple[str | None, list[float]]:
    return region["segmentation"]["counts"] if region.get("segmentation") else None, region["bbox"]


def _without_repeated(detections: list[dict]) -> list[dict]:
    """Leave out detections that repeat one of the same phrase with a higher score."""
    selected: list[dict] = []
    for detection in sorted(detections, key=lambda d: -d["score"]):
        same = [d for d in selected if d["phrase"] == detection["phrase"]]
        if not (measure_overlaps([detection], same) >= MATCH_IOU).any():
            selected.append(detection)
    return selected


def _choose_window(boxes: list[list[float]], size: tuple[int, int]) -> Window:
    """Return the part of an image around boxes with context, or the whole image if they are large or missing."""
    whole = (0, 0, *size)
    if not boxes:
        return whole
    x1, y1 = (min(box[k] for box in boxes) for k in (0, 1))
    x2, y2 = (max(box[k] + box[k + 2] for box in boxes) for k in (0, 1))
    side = max(_CONTEXT * max(x2 - x1, y2 - y1), _MIN_SIDE)
    return whole if side >= _WHOLE_SHARE * max(size) else window_around([x1, y1, x2 - x1, y2 - y1], size, side)
