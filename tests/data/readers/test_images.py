"""Tests of image sizes: the size of a reader equals that of the decoded image, for every format and EXIF rotation."""

import re

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import ExifTags, Image

from sam_ft.data.readers.images import ImageError, upright_size
from sam_ft.data.row_schema import open_image_value, to_rgb
from sam_ft.data.validation.image_checks import seen_pictures


STORED = (90, 60)  # width and height in the file, px
SUFFIXES = (".tif", ".jpg", ".png", ".webp")


def save_rotated(file, orientation: int):
    """Save an image with four plain quarters and an EXIF orientation, and return it as stored."""
    quarters = np.repeat(np.repeat(np.array([[0, 90], [160, 250]], np.uint8), STORED[1] // 2, 0), STORED[0] // 2, 1)
    image = Image.fromarray(quarters).convert("RGB")
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, exif=exif)
    return image


def corners(image: Image.Image) -> list[int]:
    """Return the grey value of each quarter, rounded to a multiple of 10."""
    grey, (width, height) = image.convert("L"), image.size
    return [round(grey.getpixel((x, y)) / 10) * 10 for y in (5, height - 5) for x in (5, width - 5)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("orientation", "size", "expected"),
    [
        (1, (90, 60), [0, 90, 160, 250]),
        (3, (90, 60), [250, 160, 90, 0]),
        (6, (60, 90), [160, 0, 250, 90]),
        (7, (60, 90), [250, 90, 160, 0]),
        (8, (60, 90), [90, 250, 0, 160]),
    ],
)
def test_an_image_has_the_size_and_pixels_of_its_upright_decoding(tmp_path, suffix, orientation, size, expected):
    file = tmp_path / f"a{suffix}"
    save_rotated(file, orientation)
    is_rotated = orientation >= 5
    for source in (file, file.read_bytes()):
        for decode in (True, False):
            assert upright_size(source, decode=decode) == (*size, is_rotated)
    rows = Dataset.from_dict({"image": [str(file)]}, features=Features({"image": ImageFeature()}))
    with Image.open(file) as unloaded:
        for decoded in (rows[0]["image"], open_image_value(str(file)), to_rgb(unloaded)):
            assert decoded.size == size
            assert corners(decoded) == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_rotated_image_has_the_hash_of_its_upright_copy(tmp_path, suffix):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)).resize((90, 60))
    noise.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    exif = noise.getexif()
    exif[ExifTags.Base.Orientation] = 6
    noise.save(tmp_path / f"rotated{suffix}", exif=exif, quality=95)
    files = [str(tmp_path / name) for name in (f"rotated{suffix}", "upright.png")]
    with seen_pictures(Dataset.from_dict({"image": files}, features=Features({"image": ImageFeature()})), 1) as seen:
        (_, rotated), (_, upright) = seen
    assert (rotated.orientation, upright.orientation) == (6, 1)
    assert (rotated.hashes[0] ^ upright.hashes[0]).bit_count() <= 1


def test_an_image_of_chosen_channels_is_not_rotated(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGBA", STORED).save(file)
    assert upright_size(file, channels=(1, 2, 3)) == (*STORED, False)


def test_the_error_of_a_damaged_image_contains_its_file(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"no image")
    for source, name in ((file, str(file)), (b"no image", "inside the file")):
        with pytest.raises(ImageError, match=f"the image {re.escape(name)} cannot be read"):
            upright_size(source)
