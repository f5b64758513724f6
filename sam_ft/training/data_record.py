"""The data of a run: recorded with its results and checkpoints, so that numbers before and after are of the same images and labels."""

import logging
from pathlib import Path

from ..data.fingerprint import DataFingerprint, ImageFiles, find_shared_images, fingerprint_rows
from ..data.loading import PhraseData
from ..utils.json_files import read_json_file, write_json
from ..utils.text import list_some


logger = logging.getLogger("sam_ft.run")

DATA_FILE = "data.json"
MAX_IMAGES = 50_000  # above it, image files are compared by their sizes: reading them would delay every start
_REMEDY = "Restore the data, set `start_over: true` to replace the run, or choose another `output_dir`"


class DataRecord:
    """
    Fingerprints of a run's training and validation rows.

    Args:
        data (`PhraseData`): The run's data.
        with_images (`bool`): Read the image files; otherwise only their sizes are compared.
    """

    def __init__(self, data: PhraseData, *, with_images: bool = True):
        self.with_images = (
            with_images and sum(len(rows) for rows in (data.train, data.validation) if rows is not None) <= MAX_IMAGES
        )
        self._rows = {"train": data.train, "validation": data.validation}
        self._files = ImageFiles(self._rows.values())
        self.fingerprints = self._compute()

    def _compute(self) -> dict[str, DataFingerprint]:
        found = {split: fingerprint_rows(rows, with_images=self.with_images) for split, rows in self._rows.items()}
        return {split: one for split, one in found.items() if one is not None}

    def find_differences(self, file: Path) -> list[str]:
        """
        Describe what differs from a record on disk; return an empty list if there is no file.

        Args:
            file (`Path`): Written by [`write`].

        Raises:
            `ValueError`: If the file cannot be read; names it.
        """
        if not file.is_file():
            return []
        content = read_json_file(file, "output_dir", remedy="Set `start_over: true`")
        same_kind = content.get("with_images") == self.with_images  # digests of image files, or their sizes
        differences = []
        for split, now in self.fingerprints.items():
            if split in content:
                differences += now.find_differences(DataFingerprint(**content[split]), split, with_images=same_kind)
        return differences

    def check(self, file: Path) -> None:
        """
        Compare the data with a record on disk.

        Args:
            file (`Path`): Written by [`write`].

        Raises:
            `ValueError`: If the data differ from the record in `file`; names what changed.
        """
        differences = self.find_differences(file)
        if differences:
            raise ValueError(
                f"`dataset_name`: the data changed since {file} was written: {'; '.join(differences)}. Results and checkpoints there are of "
                f"the earlier data. {_REMEDY}"
            )

    def check_unchanged(self) -> None:
        """
        Look for image files that were replaced since the record was made.

        Raises:
            `ValueError`: If image files were replaced since the record was made; names them.
        """
        changed = self._files.find_changed()
        if not changed:
            return
        try:
            now = self._compute()
        except OSError as error:
            raise ValueError(
                f"`dataset_name`: an image was removed while the run went on ({error}). {_REMEDY}"
            ) from error
        differences = [d for split, one in now.items() for d in one.find_differences(self.fingerprints[split], split)]
        if differences:
            raise ValueError(
                f"`dataset_name`: images were replaced while the run went on: {'; '.join(differences)}. Numbers before and after would be of "
                f"different data. {_REMEDY}"
            )

    def write(self, file: Path) -> None:
        """Write the record."""
        write_json(
            file, {"with_images": self.with_images} | {split: one.plain() for split, one in self.fingerprints.items()}
        )

    def warnings(self) -> list[str]:
        """Describe what makes an evaluation optimistic: validation images that are also trained on."""
        if not self.with_images:
            return []
        shared = find_shared_images(self.fingerprints.get("train"), self.fingerprints.get("validation"))
        if not shared:
            return []
        total = self.fingerprints["validation"].num_images
        return [
            f"WARNING: {len(shared)} of {total} validation images are training images too ({list_some(shared)}); metrics will be optimistic"
        ]
