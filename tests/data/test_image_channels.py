"""Tests of images with more than three channels."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.image_channels import count_channels, read_channels
from sam_ft.data.image_entries import ImageEntry
from sam_ft.data.loading import find_phrase_splits
from sam_ft.data.row_schema import to_rgb
from sam_ft.data.sources import read_splits
from sam_ft.inference.tiling import ImageViews
from sam_ft.options.data import DatasetOptions, ReadOptions

from .readers.trees import HEIGHT, PICTURES, TREES, WIDTH


def tiff(values: np.ndarray, order: str = "<", *, planar: int = 1, rows: int = 7, compressed: bool = True) -> bytes:
    """Write the channels of an array `(height, width, channels)` as a TIFF file; differences of pixels if compressed."""
    height, width, channels = values.shape
    bits, kind = values.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    planes = [values] if planar == 1 else [values[..., i : i + 1] for i in range(channels)]
    with_differences = compressed and kind != 3
    segments = []
    for plane in planes:
        if with_differences:
            plane = np.diff(plane, axis=1, prepend=np.zeros_like(plane[:, :1]))
        data = plane.astype(values.dtype.newbyteorder(order))
        segments += [data[i : i + rows].tobytes() for i in range(0, height, rows)]
    segments = [zlib.compress(segment) for segment in segments] if compressed else segments
    sizes = [len(segment) for segment in segments]
    tags = {
        256: [width], 257: [height], 258: [bits] * channels, 259: [8 if compressed else 1], 262: [1],
        273: [0] * len(sizes), 277: [channels], 278: [rows], 279: sizes, 284: [planar],
        317: [2 if with_differences else 1], 338: [0] * (channels - 1), 339: [kind] * channels,
    }  # fmt: skip
    begin = 8 + 2 + 12 * len(tags) + 4
    data = begin + sum(4 * len(v) for v in tags.values() if len(v) > 1)
    tags[273] = [data + sum(sizes[:i]) for i in range(len(sizes))]
    body, arrays = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        body += struct.pack(f"{order}HHI", tag, 4, len(numbers))
        body += packed if len(numbers) == 1 else struct.pack(f"{order}I", begin + len(arrays))
        arrays += packed if len(numbers) > 1 else b""
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return header + body + b"\0" * 4 + arrays + b"".join(segments)


def draw_values(dtype: str, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (HEIGHT, WIDTH, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("compressed", [False, True])
def test_channels_of_tiff_files(dtype, order, planar, compressed):
    values = draw_values(dtype, 5)
    content = tiff(values, order, planar=planar, compressed=compressed)
    assert count_channels(content) == 5
    assert np.array_equal(np.asarray(read_channels(content, [4, 2, 1])), values[..., [3, 1, 0]])


def test_large_numbers_are_scaled_by_the_range_of_the_three_channels():
    values = draw_values("uint16", 4) * 16
    values[0, 0, :3] = 0, 1000, 4000
    values[..., 3] = 60_000  # is not used
    scaled = np.asarray(read_channels(tiff(values), [1, 2, 3]))
    assert np.array_equal(scaled, np.round(values[..., :3] * np.float32(255 / 4000)).astype(np.uint8))
    floats = tiff(values.astype(np.float32) / 4000)
    assert np.abs(np.asarray(read_channels(floats, [1, 2, 3])).astype(int) - scaled).max() <= 1


def test_fewer_channels_than_the_key_are_refused():
    with pytest.raises(
        ValueError, match=r"has 4 channels, but `image_channels` is \[5, 2, 1\]; give numbers from 1 to 4"
    ):
        read_channels(tiff(draw_values("uint8", 4)), [5, 2, 1])
    with pytest.raises(ValueError, match="cannot be read"):
        read_channels(tiff(draw_values("uint8", 4))[:300], [3, 2, 1])


@pytest.mark.parametrize("channels", [[1, 2], [0, 1, 2], [1, 2, 3, 4], [True, 1, 2]])
def test_three_channels_from_1_are_required(channels):
    with pytest.raises(ValueError, match="`image_channels` must be three channels, numbered from 1"):
        ReadOptions(image_channels=channels)


def write_data(folder, values: np.ndarray) -> None:
    """Write a LabelMe folder whose images are TIFF files."""
    TREES["labelme"](folder)
    for name in PICTURES:
        file = folder / f"{name}.json"
        file.write_text(file.read_text().replace(f"{name}.png", f"{name}.tif"))
        (folder / f"{name}.png").unlink()
        (folder / f"{name}.tif").write_bytes(tiff(values))


def read(folder, **options):
    splits, _ = find_phrase_splits(DatasetOptions(str(folder)), ReadOptions(**options))
    return read_splits(splits, ReadOptions(**options))["train"][0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_training_reads_the_chosen_channels(tmp_path, dtype):
    values = draw_values(dtype, 4)
    write_data(tmp_path, values)
    with pytest.raises(
        ValueError, match=r"first.tif has 4 channels. Set `image_channels`.*`image_channels: \[3, 2, 1\]`"
    ):
        read(tmp_path)
    rows = read(tmp_path, image_channels=[3, 2, 1])
    assert np.array_equal(np.asarray(to_rgb(rows[0]["image"])), values[..., [2, 1, 0]])
    splits, _ = find_phrase_splits(DatasetOptions(str(tmp_path)))
    lazy = read_splits(splits, ReadOptions(image_channels=[3, 2, 1]), lazy=("train",))["train"][0]
    assert np.array_equal(np.asarray(to_rgb(lazy[0]["image"])), values[..., [2, 1, 0]])


def test_prediction_reads_the_chosen_channels(tmp_path):
    values = draw_values("uint16", 6)
    (tmp_path / "a.tif").write_bytes(tiff(values))
    files = [ImageEntry("a", str(tmp_path / "a.tif"))]
    assert "has 6 channels. Set `image_channels`" in ImageViews(files, 32)[0].problem
    views = ImageViews(files, 32, channels=[6, 2, 1])[0]
    Image.fromarray(values[..., [5, 1, 0]].astype(np.uint8)).save(tmp_path / "b.png")
    expected = ImageViews([ImageEntry("b", str(tmp_path / "b.png"))], 32)[0]
    assert np.array_equal(views.views[0].canvas, expected.views[0].canvas)


def test_alpha_and_single_channels_need_no_key(tmp_path):
    TREES["labelme"](tmp_path)
    alpha = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    Image.fromarray(alpha).save(tmp_path / "first.png")
    Image.fromarray(alpha[..., 0].astype(np.uint16) * 200).save(tmp_path / "second.png")
    rows = read(tmp_path)
    assert np.array_equal(np.asarray(to_rgb(rows[0]["image"])), alpha[..., :3])
    assert np.ptp(np.asarray(to_rgb(rows[1]["image"]))) == 255


def test_predictions_with_chosen_channels_equal_those_of_an_image_of_them(script, tmp_path):
    values = draw_values("uint16", 6)
    (tmp_path / "tiff").mkdir()
    (tmp_path / "png").mkdir()
    (tmp_path / "tiff" / "a.tif").write_bytes(tiff(values))
    Image.fromarray(values[..., [5, 1, 0]].astype(np.uint8)).save(tmp_path / "png" / "a.png")
    call = ("sam3_predict.py", "--phrases", "circle", "--score_threshold", "0", "--workers", "0", "--images")
    results = []
    for folder, channels in (("tiff", ["--image_channels", "6", "2", "1"]), ("png", [])):
        status, _, stderr = script(*call, folder, *channels, "--predictions_dir", f"out/{folder}")
        assert status == 0, stderr
        results.append((tmp_path / "out" / folder / "results.json").read_text())
        assert (tmp_path / "out" / folder / "overlays" / "a.jpg").is_file()
    assert results[0] == results[1]
