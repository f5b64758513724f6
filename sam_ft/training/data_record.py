"""Fingerprints of the data of a run, stored with its results and checkpoints to detect changed images and labels."""

import logging
from pathlib import Path

from ..data.fingerprint import DataFingerprint, ImageFiles, find_shared_images, fingerprint_rows
from ..data.loading import PhraseData
from ..utils.json_files import read_json_file, write_json
from ..utils.text import list_some


logger = logging.getLogger("sam_ft.run")

DATA_FILE = "data.json"
MAX_IMAGES = 50_000  # Above it, image files are compared by size, because reading them would delay each start.
_REMEDY = "Restore the data, set `start_over: true` to replace the run, or choose another `output_dir`"


class DataRecord:
    """
    Fingerprints of a run's training and validation rows.

    Args:
        data (`PhraseData`): Data of the run.
        with_images (`bool`): Whether to read the image files; otherwise only their sizes are compared.
    """

    def __init__(self, data: PhraseData, *, with_images: bool = True):
        self.with_images = (
            with_images and sum(len(rows) for rows in (data.train, data.validation) if rows is not None) <= MAX_IMAGES
        )
        self._rows = {"train": data.train, "validation": data.validation}
        self._files = ImageFiles(self._rows.values())
        self.fingerprints = self._compute()

    def _compute(self) -> dict[str, DataFingerprint]:
        fingerprints = {
            split: fingerprint_rows(rows, with_images=self.with_images) for split, rows in self._rows.items()
        }
        return {split: fingerprint for split, fingerprint in fingerprints.items() if fingerprint is not None}

    def find_differences(self, file: Path) -> list[str]:
        """
        Describe what differs from a record on disk; return an empty list if there is no file.

        Args:
            file (`Path`): Written by [`write`].

        Raises:
            ValueError: If the file cannot be read.
        """
        if not file.is_file():
            return []
        content = read_json_file(file, "output_dir", remedy="Set `start_over: true`")
        # A digest of image files and a size cannot be compared.
        same_kind = content.get("with_images") == self.with_images
        differences = []
        for split, current in self.fingerprints.items():
            if split in content:
                recorded = DataFingerprint(**content[split])
                differences += current.find_differences(recorded, split, with_images=same_kind)
        return differences

    def check(self, file: Path) -> None:
        """
        Compare the data with a record on disk.

        Args:
            file (`Path`): Written by [`write`].

        Raises:
            ValueError: If the data differ from the record in `file`. The message names the changes.
        """
        differences = self.find_differences(file)
        if differences:
            raise ValueError(
                f"`dataset_name`: the data changed since {file} was written: {'; '.join(differences)}. "
                f"Results and checkpoints there belong to the earlier data. {_REMEDY}"
            )

    def check_unchanged(self) -> None:
        """
        Check that no image file was replaced since the record was made.

        Raises:
            ValueError: If image files were replaced or removed. The message names them.
        """
        changed = self._files.find_changed()
        if not changed:
            return
        try:
            current = self._compute()
        except OSError as error:
            raise ValueError(f"`dataset_name`: an image was removed during the run ({error}). {_REMEDY}") from error
        differences = [
            difference
            for split, fingerprint in current.items()
            for difference in fingerprint.find_differences(self.fingerprints[split], split)
        ]
        if differences:
            raise ValueError(
                f"`dataset_name`: images were replaced during the run: {'; '.join(differences)}. Metrics before and "
                f"after would be of different data. {_REMEDY}"
            )

    def write(self, file: Path) -> None:
        """Write the record to a JSON file."""
        fingerprints = {split: fingerprint.plain() for split, fingerprint in self.fingerprints.items()}
        write_json(file, {"with_images": self.with_images} | fingerprints)

    def list_warnings(self) -> list[str]:
        """Return warnings about validation images that are also training images."""
        if not self.with_images:
            return []
        shared = find_shared_images(self.fingerprints.get("train"), self.fingerprints.get("validation"))
        if not shared:
            return []
        total = self.fingerprints["validation"].num_images
        return [
            f"WARNING: {len(shared)} of {total} validation images are also training images ({list_some(shared)}); "
            "metrics will be optimistic"
        ]
