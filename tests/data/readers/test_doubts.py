import numpy as np
import pytest

from sam_ft.data.readers.doubts import check_consistency
from sam_ft.data.readers.records import Shape


@pytest.mark.parametrize(("length", "expected"), [(8, []), (9, ["mask in pieces"])])
def test_pixels_at_a_corner_are_noise_beside_nine_tenths_of_the_mask(length, expected):
    mask = np.zeros((20, 20), dtype=bool)
    mask[5, 2 : 2 + length] = mask[6, 2 + length] = True
    remarks = check_consistency(Shape("a", mask=mask), [2, 5, length + 1, 2], length + 1, (20, 20), "a")
    assert [remark.kind for remark in remarks] == expected
