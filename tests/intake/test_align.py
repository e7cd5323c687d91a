import hashlib
import math
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from stages.faces.decode import BoxPx
from stages.intake.align import EyeDetector, level_angle
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


RIGHTMOST = (150, 100, 100, 100)


@pytest.mark.parametrize(
    ("rows", "angle"),
    [
        ([detection()], 0),
        ([detection(left_eye=(170, 180))], 45),
        ([detection(left_eye=(170, 120))], -math.degrees(math.atan(0.5))),
        # Of several faces the face that overlaps best counts.
        ([detection(box=RIGHTMOST, left_eye=(170, 160), score=0.99), detection()], 0),
        # 30 x 100 of 100 x 100 px are shared: 30 / 170; at 50 px it is 50 / 150.
        ([detection(box=(170, 100, 100, 100))], None),
        ([detection(box=RIGHTMOST)], 0),
        ([detection(box=(100, 100, 20, 20))], None),
        ([], None),
        ([detection(score=0.59)], None),
        ([detection(score=0.61)], 0),
        # Beyond 45 degrees it is a mistake.
        ([detection(left_eye=(170, 181))], None),
        ([detection(right_eye=(170, 140), left_eye=(130, 140))], None),
        # Both eyes lie in what the network saw.
        *(([detection(left_eye=eye)], None) for eye in ((-1, 140), (170, -0.5), (320, 140))),
        ([detection(right_eye=(130, 320))], None),
    ],
)
def test_the_sure_face_that_overlaps_best_gives_the_angle(rows, angle):
    assert angle_of(*rows) == (None if angle is None else pytest.approx(angle))


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
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer in place of the file"),
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
    scale, smooth = side / 200, cv2.LINE_AA
    face = np.full((400, 400, 3), 120, np.uint8)

    def ellipse(centre, axes, colour) -> None:
        cv2.ellipse(face, centre, axes, 0, 0, 360, colour, -1, smooth)

    ellipse((200, 180), (95, 120), (60, 40, 30))
    ellipse((200, 205), (80, 100), (224, 180, 150))
    for x in (167, 233):
        ellipse((x, 190), (17, 9), (250, 250, 250))
        ellipse((x, 190), (8, 8), (40, 25, 20))
        cv2.ellipse(face, (x, 170), (20, 6), 0, 180, 360, (60, 40, 30), 4, smooth)
    cv2.line(face, (200, 195), (193, 228), (180, 130, 110), 4, smooth)
    cv2.ellipse(face, (200, 228), (13, 6), 0, 0, 180, (170, 115, 100), 4, smooth)
    ellipse((200, 258), (30, 11), (170, 60, 60))
    turn = cv2.getRotationMatrix2D((200, 200), -angle, scale)
    turn[:, 2] += 200 * scale - 200
    photo = cv2.warpAffine(face, turn, (2 * side, 2 * side), borderMode=cv2.BORDER_REPLICATE)
    return photo, BoxPx(side // 2, side // 2, side * 3 // 2, side * 3 // 2)


@pytest.mark.parametrize("side", [60, 200, 700])
@pytest.mark.parametrize("angle", [-20, -8, 0, 8, 20])
def test_yunet_finds_the_angle_of_a_drawn_face(yunet, angle, side):
    photo, box = drawn_face(angle, side=side)
    assert EyeDetector(yunet).eye_angle(photo, box=box) == pytest.approx(angle, abs=6)


def test_where_no_face_is_there_is_no_angle(yunet):
    detector = EyeDetector(yunet)
    assert detector.eye_angle(PHOTO, box=BoxPx(30, 20, 70, 60)) is None
    photo, _ = drawn_face(0)
    assert detector.eye_angle(photo, box=BoxPx(0, 0, 40, 40)) is None


def test_a_detector_in_another_process_finds_the_same_angles(yunet):
    detector = EyeDetector(yunet)
    copy = pickle.loads(pickle.dumps(detector))
    assert copy.sha256 == detector.sha256 == hashlib.sha256(yunet).hexdigest()
    work = [drawn_face(angle) for angle in range(-18, 19, 3)]
    angles = [detector.eye_angle(photo, box=box) for photo, box in work]
    assert len(set(angles)) > 6
    assert [copy.eye_angle(photo, box=box) for photo, box in work] == angles
