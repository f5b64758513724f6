import math

import numpy as np
import pytest

from sam_ft.data.readers.outlines import draw_polygons, ellipse, flatten_points


def test_a_rotated_ellipse_has_its_area_and_direction():
    mask = draw_polygons([ellipse(50, 40, 30, 10, math.pi / 2)], 100, 80)
    assert mask.sum() == pytest.approx(math.pi * 300, rel=0.02)
    ys, xs = np.nonzero(mask)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (40, 59, 10, 69)


def test_points_are_flattened_and_others_refused():
    assert flatten_points([{"x": 1, "y": 2}, {"x": "3", "y": 4.5}]) == [1, 2, 3, 4.5]
    for points in (None, 3, [[1, 2]], [{"x": 1}], [{"x": None, "y": 1}], {"x": 1, "y": 2}):
        with pytest.raises(ValueError, match="the points are .*; expected"):
            flatten_points(points)
