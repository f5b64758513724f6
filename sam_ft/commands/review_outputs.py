"""Outputs of a label review: findings, page and proposals, which are written again only if they would change."""

import logging
import os
from collections import Counter
from dataclasses import asdict, dataclass

from ..arguments import ReviewArguments
from ..data.writers.image_names import source_paths
from ..inference.label_proposals import PROPOSAL_FILES, write_proposals
from ..metrics.label_findings import LabelFinding
from ..metrics.label_overlap import MIN_CONFIDENCE, Calibration, ReviewedImage
from ..metrics.label_review import KINDS
from ..reporting.review_page import KIND_TITLES, ReviewPage
from ..utils.json_files import read_json_file, to_json
from ..utils.owned_files import OwnedFiles
from ..utils.text import list_some
from .review_data import ReviewData


logger = logging.getLogger("sam_ft.run")

FINDINGS_FILE, PAGE, PROPOSALS_FOLDER = "findings.json", "index.html", "proposals"
UNRELIABLE_SUPPORT = MIN_CONFIDENCE / 2  # mean support of the labels of a phrase
_ARGUMENT, _KIND = "review_dir", "review"


def check_outputs(owned: OwnedFiles) -> None:
    """
    Check that the outputs of a review may be written.

    Args:
        owned (`OwnedFiles`): Files of the review's folder.

    Raises:
        ValueError: If a file of such a name exists that no review wrote, or that was edited since.
    """
    owned.check_free([FINDINGS_FILE, PAGE], _ARGUMENT)
    names = [name for files in PROPOSAL_FILES.values() for name in files]
    _proposal_files(owned).check_free(names, _ARGUMENT)


def _proposal_files(owned: OwnedFiles) -> OwnedFiles:
    return OwnedFiles(owned.folder / PROPOSALS_FOLDER, _KIND)


@dataclass
class Review:
    """
    Result of a label review.

    Attributes:
        data (`ReviewData`): The images.
        images (`dict[str, ReviewedImage]`): Labels and predictions by example.
        findings (`list[LabelFinding]`): Findings, highest score first.
        calibration (`Calibration`): Statistics of all images.
        fold_of (`dict[str, int | None]`): Fold that predicted each example; `None` without training.
    """

    data: ReviewData
    images: dict[str, ReviewedImage]
    findings: list[LabelFinding]
    calibration: Calibration
    fold_of: dict[str, int | None]

    def write(self, owned: OwnedFiles, args: ReviewArguments, title: str) -> None:
        """
        Write all outputs, `findings.json` last; nothing if an earlier call wrote the same.

        Args:
            owned (`OwnedFiles`): Files of the review's folder.
            args (`ReviewArguments`): Keys of findings and outputs.
            title (`str`): Title of the page.
        """
        content, proposals = self.describe(args), _proposal_files(owned)
        applied = [finding for finding in self.findings if finding.score >= args.min_proposal_score]
        # Label Studio gets the images of findings alone.
        formats = [name for name in self._choose_formats(args) if applied or name != "label_studio"]
        names = [FINDINGS_FILE, *([PAGE] if args.max_findings else [])]
        files = [file for name in formats for file in PROPOSAL_FILES[name]]
        is_complete = all(map(owned.is_owned, names)) and all(map(proposals.is_owned, files))
        if is_complete and read_json_file(owned.folder / FINDINGS_FILE, _ARGUMENT) == content:
            logger.info("  all outputs are up to date")
            return
        if args.max_findings:
            owned.write_text(PAGE, self._build_page(title).render(args.max_findings), _ARGUMENT)
        if formats:
            proposals.folder.mkdir(exist_ok=True)
            rows = self.data.rows.remove_columns("image")
            write_proposals(proposals, formats, rows, self._list_paths(), self.images, applied)
        # Outputs of an earlier call with other keys would contradict the findings.
        stale = [(proposals, name) for name in proposals.names if name not in files]
        stale += [(owned, PAGE)] if PAGE not in names and owned.is_owned(PAGE) else []
        for folder, name in stale:
            folder.remove([name])
        owned.write_text(FINDINGS_FILE, to_json(content, FINDINGS_FILE, indent=1), _ARGUMENT)

    def _choose_formats(self, args: ReviewArguments) -> list[str]:
        """Return the formats of the proposals; none if an image is not a file, which labelling tools need."""
        if None in self._list_paths():
            logger.info("  no proposals are written, because images are not files")
            return []
        return args.proposals

    def _list_paths(self) -> list[str | None]:
        return list(source_paths(self.data.rows))

    def _build_page(self, title: str) -> ReviewPage:
        paths = self._list_paths()
        files = [path for path in paths if path is not None]
        root = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
        names = {
            name: f"{self.data.split_of[name]}: {name if path is None else os.path.relpath(path, root)}"
            for name, path in zip(self.data.rows["example_id"], paths, strict=True)
        }
        notes = [*self.data.notes, *list_unreliable_phrases(self.calibration)]
        return ReviewPage(self.findings, self.images, self.data.rows, self.calibration, title, notes, names)

    def describe(self, args: ReviewArguments) -> dict:
        """Return the content of `findings.json`; folds are numbered from 1."""
        paths = dict(zip(self.data.rows["example_id"], self._list_paths(), strict=True))
        listed = []
        for finding in self.findings:
            fold = self.fold_of[finding.example_id]
            listed.append(
                finding.to_plain()
                | {"split": self.data.split_of[finding.example_id], "image": paths[finding.example_id]}
                | {"fold": None if fold is None else fold + 1}
            )
        folds = self.data.folds
        return {
            "images": len(self.images),
            "labels": sum(len(image.labels) for image in self.images.values()),
            "num_folds": None if folds is None else folds.num_folds,
            "untrained_phrases": [] if folds is None else folds.untrained_phrases,
            "settings": {
                name: getattr(args, name)
                for name in (
                    "check_crops",
                    "finding_kinds",
                    "min_finding_score",
                    "max_findings",
                    "proposals",
                    "min_proposal_score",
                )
            },
            "calibration": asdict(self.calibration),
            "notes": [*self.data.notes, *list_unreliable_phrases(self.calibration)],
            "findings": listed,
        }

    def summarize(self) -> list[str]:
        """Return the number of findings of each kind, and a warning about phrases that are hardly found, as lines."""
        counts = Counter(finding.kind for finding in self.findings)
        lines = [f"{KIND_TITLES[kind].lower()}: {counts[kind]}" for kind in KINDS if counts[kind]]
        return [*list_unreliable_phrases(self.calibration), *(lines or ["no findings"])]


def list_unreliable_phrases(calibration: Calibration) -> list[str]:
    """Return a warning about the phrases that the models hardly find; empty if there are none."""
    weak = sorted(name for name, support in calibration.confidence.items() if support < UNRELIABLE_SUPPORT)
    if not weak:
        return []
    return [
        f"WARNING: the models hardly find the labels of {len(weak)} of {len(calibration.confidence)} phrases (mean "
        f"support below {UNRELIABLE_SUPPORT}), so their findings are unreliable: {list_some(weak, 10)}. Train longer, "
        "or set another `config`"
    ]
