import numpy as np
import pytest

from tools.sample.pen import Pen, Pose, curve, ellipse, loop, mirrored

WHITE = (255, 255, 255)


def drawn(shape, **pose):
    canvas = np.zeros((200, 200, 3), np.uint8)
    Pen(canvas, Pose(100, 100, 80, **pose)).fill(shape, WHITE)
    return canvas[..., 0] > 0


def centre(mask):
    rows, columns = np.nonzero(mask)
    return columns.mean(), rows.mean()


def test_an_ellipse_has_its_area_and_place():
    mask = drawn(ellipse(0.2, -0.1, 0.5, 0.3))
    assert mask.sum() == pytest.approx(np.pi * 0.5 * 0.3 * 80**2, rel=0.03)
    assert centre(mask) == pytest.approx((100 + 16, 100 - 8), abs=1)


def test_turning_moves_what_stands_out_of_the_face_further():
    nose, ear = ellipse(0, 0, 0.05, 0.05), ellipse(0.9, 0, 0.05, 0.05)
    shift = [centre(drawn(part, yaw=1))[0] - centre(drawn(part))[0] for part in (nose, ear)]
    assert shift[0] > shift[1] + 5 > 5


def test_rolling_is_clockwise_for_a_positive_roll():
    x, y = centre(drawn(ellipse(0.8, 0, 0.05, 0.05), roll=1))
    assert x < 164
    assert y > 110


def test_a_stroke_is_as_wide_as_asked_in_its_middle_and_thinner_at_its_ends():
    canvas = np.zeros((200, 200, 3), np.uint8)
    line = np.stack([np.linspace(-1, 1, 41), np.zeros(41)], axis=1)
    Pen(canvas, Pose(100, 100, 80)).stroke(line, WHITE, width=0.25, taper=0.2)
    widths = (canvas[..., 0] > 0).sum(axis=0)
    assert widths[100] == pytest.approx(20, abs=1.5)
    assert 3 <= widths[22] < 9


def test_curves_pass_through_their_points():
    points = [(0.0, 0.0), (0.3, 0.5), (0.7, -0.2), (1.0, 0.1)]
    for line in (curve(*points), loop(*points)):
        for point in points:
            assert np.abs(line - point).sum(axis=1).min() < 1e-12


def test_mirroring_twice_is_nothing():
    line = curve((0.1, 0.2), (0.5, 0.6), (0.9, 0))
    assert (mirrored(mirrored(line, -1), -1) == line).all()
    assert (mirrored(line, -1)[:, 0] == -line[:, 0]).all()
