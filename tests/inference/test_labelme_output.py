"""Files for LabelMe and X-AnyLabeling: scores, holes, and masks that the reader reads back."""

import json

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.image_entries import ImageEntry
from sam_ft.inference.output_writers import encode_labelme
from sam_ft.inference.predictor import ImagePrediction
from sam_ft.ops.masks import decode_mask

from ..data.readers.test_layouts import read
from .test_label_studio_output import HEIGHT, WIDTH, detection, rectangle, with_hole


@pytest.mark.parametrize("with_bitmaps", [True, False])
def test_scores_and_masks(tmp_path, with_bitmaps):
    """X-AnyLabeling refuses a file with a bitmap, so that holes are filled for it."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    two_pieces = rectangle(2, 2) | rectangle(40, 50)
    detections = [detection(with_hole(), 0.87654), detection(two_pieces, 0.5), {"score": 0.25, "bbox": [1, 2, 30, 40]}]
    prediction = ImagePrediction("a", HEIGHT, WIDTH, {"dog": detections})
    entry = ImageEntry("a", str(tmp_path / "a.png"))
    ((name, content),) = encode_labelme(prediction, entry, tmp_path, with_bitmaps=with_bitmaps).items()
    (tmp_path / name).write_bytes(content)
    shapes = json.loads(content)["shapes"]
    kinds = ["mask" if with_bitmaps else "polygon", "polygon", "polygon", "rectangle"]
    assert [shape["shape_type"] for shape in shapes] == kinds
    assert [shape["score"] for shape in shapes] == [0.877, 0.5, 0.5, 0.25]
    assert shapes[0]["description"] == "score 0.877"
    rows, _ = read(tmp_path)
    masks = [
        decode_mask(i["segmentation"], HEIGHT, WIDTH) for i in rows[0]["instances"] if i["segmentation"] is not None
    ]
    assert len(masks) == 2
    assert bool(masks[0][HEIGHT // 2, WIDTH // 2]) is not with_bitmaps
    assert np.array_equal(masks[1], two_pieces)
