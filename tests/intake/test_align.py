import hashlib
import math
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.boxes import BoxPx
from stages.faces.decode import UnusableImageError
from stages.intake.align import EyeDetector, crop_upright, level_angle
from stages.intake.crop import crop_square
from stages.runtime.errors import UserError

PHOTO = np.random.default_rng(8).integers(0, 256, (90, 120, 3), np.uint8)
BOX = (100.0, 100.0, 200.0, 200.0)


def detection(
    *, box=(100, 100, 100, 100), right_eye=(130, 140), left_eye=(170, 140), score=0.9
) -> list[float]:
    """A row of YuNet's: left, top, width, height, five points, score."""
    return [*box, *right_eye, *left_eye, 150, 160, 135, 180, 165, 180, score]


def angle_of(*rows: list[float], box=BOX) -> float | None:
    return level_angle(np.array(rows, np.float32).reshape(-1, 15), box=box)


# --- which detection, which angle ------------------------------------------------------------------


def test_level_eyes_have_no_angle_and_falling_ones_a_positive_one():
    assert angle_of(detection()) == 0
    assert angle_of(detection(left_eye=(170, 180))) == pytest.approx(45)
    assert angle_of(detection(left_eye=(170, 120))) == pytest.approx(-math.degrees(math.atan(0.5)))


def test_of_several_faces_the_one_that_overlaps_best_counts():
    other = detection(box=(150, 100, 100, 100), left_eye=(170, 160), score=0.99)
    assert angle_of(other, detection(), other) == 0


def test_a_face_elsewhere_is_no_face():
    # 30 x 100 of 100 x 100 px are shared: 30 / 170; at 50 px it is 50 / 150.
    assert angle_of(detection(box=(170, 100, 100, 100))) is None
    assert angle_of(detection(box=(150, 100, 100, 100))) == 0
    assert angle_of(detection(box=(100, 100, 20, 20))) is None
    assert angle_of() is None


def test_an_unsure_face_is_no_face():
    assert angle_of(detection(score=0.59)) is None
    assert angle_of(detection(score=0.61)) == 0


@pytest.mark.parametrize("eye", [(-1, 140), (170, -0.5), (320, 140), (130, 400)])
def test_both_eyes_lie_in_what_the_network_saw(eye):
    assert angle_of(detection(left_eye=eye)) is None
    assert angle_of(detection(right_eye=eye)) is None


def test_beyond_45_degrees_it_is_a_mistake():
    assert angle_of(detection(left_eye=(170, 181))) is None
    assert angle_of(detection(right_eye=(170, 140), left_eye=(130, 140))) is None


@given(st.floats(-44, 44), st.floats(5, 60))
def test_any_angle_is_found(degrees, distance):
    turned = (
        150 + distance * math.cos(math.radians(degrees)),
        150 + distance * math.sin(math.radians(degrees)),
    )
    found = angle_of(detection(right_eye=(150, 150), left_eye=turned))
    assert found == pytest.approx(degrees, abs=1e-2)


# --- the turned crop -------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(-20, 90), st.integers(-20, 60)),
    st.tuples(st.integers(5, 60), st.integers(5, 60)),
    st.floats(0, 1),
)
def test_without_an_angle_it_is_the_square_crop(corner, size, margin):
    box = BoxPx(*corner, corner[0] + size[0], corner[1] + size[1])
    try:
        expected = crop_square(PHOTO, box=box, margin=margin)
    except UnusableImageError:
        with pytest.raises(UnusableImageError):
            crop_upright(PHOTO, box=box, margin=margin, angle=0.0)
        return
    assert np.array_equal(crop_upright(PHOTO, box=box, margin=margin, angle=0.0), expected)


def test_a_quarter_turn_is_numpy_own():
    # Not an angle of eyes, but exact: a line that falls by 90 degrees becomes level.
    square = crop_square(PHOTO, box=BoxPx(30, 20, 70, 60), margin=0.1)
    turned = crop_upright(PHOTO, box=BoxPx(30, 20, 70, 60), margin=0.1, angle=90.0)
    assert np.abs(turned.astype(int) - np.rot90(square)).max() <= 1


@pytest.mark.parametrize("angle", [-40.0, -13.5, 7.0, 33.0])
@pytest.mark.parametrize("middle", [(60, 45), (25, 70)])
def test_eyes_at_that_angle_become_level_and_the_centre_stays(angle, middle):
    photo = np.zeros((90, 120, 3), np.uint8)
    step = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))]) * 12
    eyes = [np.round((np.array(middle) + sign * step) * 16).astype(int) for sign in (-1, 1)]
    for eye, colour in zip(eyes, [(255, 0, 0), (0, 255, 0)], strict=True):
        cv2.circle(photo, eye.tolist(), 3 * 16, colour, -1, cv2.LINE_AA, 4)
    box = BoxPx(middle[0] - 20, middle[1] - 20, middle[0] + 21, middle[1] + 21)
    face = crop_upright(photo, box=box, margin=0.0, angle=angle)
    assert face.shape == (41, 41, 3)
    right, left = (np.argwhere(face[:, :, channel] > 127).mean(axis=0) for channel in (0, 1))
    assert right == pytest.approx((20, 8), abs=0.3)
    assert left == pytest.approx((20, 32), abs=0.3)


@pytest.mark.parametrize("angle", [-45.0, 11.0, 45.0])
def test_the_turned_crop_against_a_turn_of_the_whole_photo(angle):
    photo = cv2.resize(PHOTO[:9, :12], (240, 180), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((119.5, 89.5), angle, 1)
    turn[:, 2] -= (80, 50)
    expected = cv2.warpAffine(photo, turn, (80, 80), flags=cv2.INTER_CUBIC)
    face = crop_upright(photo, box=BoxPx(80, 50, 160, 130), margin=0.0, angle=angle)
    assert np.abs(face.astype(int) - expected).max() <= 3


def test_beyond_the_edge_the_edge_is_repeated():
    photo = np.full((50, 50, 3), (10, 200, 90), np.uint8)
    face = crop_upright(photo, box=BoxPx(-10, -10, 30, 30), margin=1.0, angle=20.0)
    assert (face == (10, 200, 90)).all()


def test_a_photo_that_is_wider_than_opencv_warps():
    photo = np.zeros((40, 40_000, 3), np.uint8)
    photo[:, 39_990:] = 255
    face = crop_upright(photo, box=BoxPx(39_960, 0, 40_000, 40), margin=0.0, angle=0.0)
    assert np.array_equal(face, photo[:, -40:])
    assert crop_upright(photo, box=BoxPx(39_960, 0, 40_000, 40), margin=0.0, angle=9.0).max() == 255


# --- the detector ----------------------------------------------------------------------------------


def another_network() -> bytes:
    places = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 320, 320])
        for name in ("input", "output")
    ]
    node = onnx.helper.make_node("Relu", ["input"], ["output"])
    graph = onnx.helper.make_graph([node], "relu", places[:1], places[1:])
    opset = onnx.helper.make_opsetid("", 13)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (b"", "an empty file"),
        (b"not a model", "text that begins with 'not a model'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer in place of the file"),
        (bytes(2000), "2,000 bytes of no known kind"),
        (another_network(), "an ONNX file"),
    ],
)
def test_reported_a_file_that_is_not_yunet_is_called_what_it_is(model, kind):
    with pytest.raises(UserError, match=r"^params\.yaml: standardize\.face_detector: ") as caught:
        EyeDetector(model)
    assert f"expected YuNet's ONNX file, got {kind}" in str(caught.value)
    assert "that OpenCV cannot run: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def yunet() -> bytes:
    path = os.environ.get("YUNET_MODEL")
    if not path:
        pytest.skip("YUNET_MODEL does not name YuNet's ONNX file")
    return Path(path).read_bytes()


def drawn_face(angle: float, *, side: int = 200) -> tuple[np.ndarray, BoxPx]:
    """A simple face, turned by an angle about the middle of a grey photo of 2 x its side."""
    scale = side / 200
    face = np.full((400, 400, 3), 120, np.uint8)
    cv2.ellipse(face, (200, 180), (95, 120), 0, 0, 360, (60, 40, 30), -1, cv2.LINE_AA)
    cv2.ellipse(face, (200, 205), (80, 100), 0, 0, 360, (224, 180, 150), -1, cv2.LINE_AA)
    for x in (167, 233):
        cv2.ellipse(face, (x, 190), (17, 9), 0, 0, 360, (250, 250, 250), -1, cv2.LINE_AA)
        cv2.circle(face, (x, 190), 8, (40, 25, 20), -1, cv2.LINE_AA)
        cv2.ellipse(face, (x, 170), (20, 6), 0, 180, 360, (60, 40, 30), 4, cv2.LINE_AA)
    cv2.line(face, (200, 195), (193, 228), (180, 130, 110), 4, cv2.LINE_AA)
    cv2.ellipse(face, (200, 228), (13, 6), 0, 0, 180, (170, 115, 100), 4, cv2.LINE_AA)
    cv2.ellipse(face, (200, 258), (30, 11), 0, 0, 360, (170, 60, 60), -1, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((200, 200), -angle, scale)
    turn[:, 2] += 200 * scale - 200
    size = (2 * side, 2 * side)
    photo = cv2.warpAffine(face, turn, size, borderMode=cv2.BORDER_REPLICATE)
    return photo, BoxPx(side // 2, side // 2, side * 3 // 2, side * 3 // 2)


@pytest.mark.parametrize("side", [60, 200, 700])
@pytest.mark.parametrize("angle", [-20, -8, 0, 8, 20])
def test_yunet_finds_the_angle_of_a_drawn_face(yunet, angle, side):
    photo, box = drawn_face(angle, side=side)
    found = EyeDetector(yunet).eye_angle(photo, box=box)
    assert found == pytest.approx(angle, abs=6)


def test_a_pickled_detector_finds_the_same_angle(yunet):
    detector = EyeDetector(yunet)
    copy = pickle.loads(pickle.dumps(detector))
    photo, box = drawn_face(8)
    assert copy.sha256 == detector.sha256
    assert copy.eye_angle(photo, box=box) == detector.eye_angle(photo, box=box)


def test_where_no_face_is_there_is_no_angle(yunet):
    detector = EyeDetector(yunet)
    assert detector.eye_angle(PHOTO, box=BoxPx(30, 20, 70, 60)) is None
    photo, _ = drawn_face(0)
    assert detector.eye_angle(photo, box=BoxPx(0, 0, 40, 40)) is None
    with pytest.raises(UnusableImageError, match="box_outside"):
        detector.eye_angle(PHOTO, box=BoxPx(500, 500, 600, 600))


def test_threads_that_share_a_detector_get_the_angles_of_one_thread(yunet):
    detector = EyeDetector(yunet)
    assert detector.sha256 == hashlib.sha256(yunet).hexdigest()
    work = [drawn_face(angle) for angle in range(-18, 19, 3)]
    expected = [EyeDetector(yunet).eye_angle(photo, box=box) for photo, box in work]
    assert len(set(expected)) > 6
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda item: detector.eye_angle(item[0], box=item[1]), work * 3)
        assert list(results) == expected * 3
