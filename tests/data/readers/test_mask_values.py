import io

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.readers.mask_values import read_numbers


def test_numbers_of_a_jpeg_are_refused():
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for image_format in ("PNG", "JPEG"):
        file = io.BytesIO()
        Image.fromarray(values).save(file, image_format)
        if image_format == "PNG":
            assert np.array_equal(read_numbers(file), values)
        else:
            with pytest.raises(ValueError, match="it is a JPEG"):
                read_numbers(file)
