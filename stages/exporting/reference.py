"""A face, or a photo and a box -> its label and probabilities, by what an ONNX file says of itself.

    python reference.py ensemble.onnx face.png
    python reference.py ensemble.onnx photo.jpg --box 40 30 160 170

Needs Python 3.8 or later, numpy, opencv-python (or -headless) and onnxruntime, and nothing else of
the project that made the file: this script travels with it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime

# Python 3.8 cannot evaluate these types; it need not, for annotations are not evaluated here.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Box = Sequence[int]

_METADATA_VERSION = 2


class Expressions:
    """An exported model with all that its metadata says of classes and preparation."""

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        """Load a file; `threads` is the number of cores to use, 0 for all.

        Raises:
            ValueError: if there is no such file, or it does not say how it is used, or in a form
                unknown here.
        """
        if not Path(path).is_file():
            raise ValueError(f"{path}: expected an exported .onnx file, found none")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        texts = self._session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = {key: json.loads(text) for key, text in texts.items()}
        version = self.metadata.get("metadata_version")
        if version != _METADATA_VERSION:
            raise ValueError(f"metadata_version: expected {_METADATA_VERSION}, got {version}")
        self.classes: list[str] = self.metadata["class_order"]

    def predict(self, faces: Sequence[Image]) -> tuple[list[str], NDArray[np.float32]]:
        """The label of each face RGB (H, W, 3), and calibrated probabilities (N, 7).

        Probabilities are in the order of `classes`. The label is named by the file's decision
        rule: the most probable class, unless the exponent of the rule is above 0.

        Raises:
            ValueError: if there is no face, or one is not what `prepare` takes.
        """
        if not len(faces):
            raise ValueError("faces: expected at least one face, got none")
        batch = np.stack([self.prepare(face) for face in faces])
        labels, probabilities = self._session.run(["label", "probabilities"], {"image": batch})
        return [self.classes[label] for label in labels], np.asarray(probabilities)

    def cut(
        self, photo: Image, *, box: Box, eyes: Sequence[tuple[float, float]] | None = None
    ) -> Image:
        """The face in a box (left, top, right, bottom, px) of a photo, uint8 RGB (H, W, 3).

        The box counts in the rows and columns of `photo`; `read_picture` has turned them.
        `eyes` are the subject's right and left eye, (x, y) in the photo; they count for a model
        whose faces were levelled, and are refused for any other.

        Raises:
            ValueError: for a box without area or mostly outside the photo, another kind of array,
                or eyes that are no numbers.
        """
        rules = self.metadata["preprocess"]["face"]
        _check_image(photo, name="photo")
        _check_box(photo, box)
        angle = None if eyes is None else _angle(rules["levelled"], eyes)
        left, top, right, bottom = box
        side = max(1, round(max(right - left, bottom - top) * (1 + 2 * rules["crop_margin"])))
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        if angle is not None:
            return _turned(photo, x, y, side=side, angle=angle)
        height, width = photo.shape[:2]
        inside = photo[max(y, 0) : min(y + side, height), max(x, 0) : min(x + side, width)]
        above, below = max(-y, 0), max(y + side - height, 0)
        before, behind = max(-x, 0), max(x + side - width, 0)
        square = cv2.copyMakeBorder(inside, above, below, before, behind, cv2.BORDER_REPLICATE)
        return np.asarray(square, np.uint8)

    def prepare(self, face: Image) -> NDArray[np.float32]:
        """The model's input (3, S, S) of a face, uint8 RGB (H, W, 3), as the metadata says.

        Raises:
            ValueError: for another kind of array. BGR, OpenCV's order, cannot be told from RGB.
        """
        rules = self.metadata["preprocess"]
        _check_image(face, name="face")
        height, width = face.shape[:2]
        scale = rules["face"]["max_side_px"] / max(height, width)
        if scale < 1:
            limited = max(1, round(width * scale)), max(1, round(height * scale))
            face = _resized(face, limited, way="INTER_AREA")
        size, resize = rules["size"], rules["resize"]
        if face.shape[:2] != (size, size):
            way = resize["shrink"] if min(face.shape[:2]) > size else resize["enlarge"]
            face = _resized(face, (size, size), way=way)
        clahe = rules["clahe"]
        if clahe is not None:
            planes = cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb)
            equalizer = cv2.createCLAHE(clahe["clip_limit"], tuple(clahe["tiles"]))
            planes[:, :, 0] = equalizer.apply(np.ascontiguousarray(planes[:, :, 0]))
            face = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB), np.uint8)
        mean, std = np.array(rules["mean"], np.float32), np.array(rules["std"], np.float32)
        values = (face.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1))


def read_picture(path: str | Path) -> Image:
    """A picture file as RGB (H, W, 3), turned as its EXIF data say: as a viewer shows it.

    Raises:
        ValueError: if it is no picture.
    """
    return _decoded(path, flags=cv2.IMREAD_COLOR)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the label and the probability of each class, as JSON."""
    parser = argparse.ArgumentParser(description="Label and calibrated probabilities of one face.")
    parser.add_argument("model", help="an exported .onnx file")
    parser.add_argument("picture", help="a face that is cut already, or a photo with --box")
    parser.add_argument(
        "--box",
        type=int,
        nargs=4,
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="px of the picture as a viewer shows it, turned as its EXIF data say",
    )
    parser.add_argument(
        "--eyes",
        type=float,
        nargs=4,
        metavar=("RX", "RY", "LX", "LY"),
        help="the subject's right and left eye, for a model whose faces were levelled",
    )
    arguments = parser.parse_args(argv)
    if arguments.eyes and not arguments.box:
        parser.error("--eyes needs --box")
    try:
        model = Expressions(arguments.model)
        face = read_picture(arguments.picture)
        if arguments.box:
            _say_if_turned(arguments.picture, face)
            x = arguments.eyes
            eyes = None if x is None else [(x[0], x[1]), (x[2], x[3])]
            face = model.cut(face, box=arguments.box, eyes=eyes)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    (label,), (values,) = model.predict([face])
    probabilities = {name: float(values[k]) for k, name in enumerate(model.classes)}
    print(json.dumps({"label": label, "probabilities": probabilities}, indent=2))
    return 0


def _decoded(path: str | Path, *, flags: int) -> Image:
    # Not cv2.imread, which knows no umlauts in names on Windows.
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"{Path(path).name}: expected a picture, got {data.size:,} bytes of none")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _say_if_turned(path: str | Path, shown: Image) -> None:
    """Tell on stderr that a box drawn on the stored pixels would take another region."""
    stored = _decoded(path, flags=cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if not np.array_equal(stored, shown):
        shapes = [f"{image.shape[1]} x {image.shape[0]} px" for image in (shown, stored)]
        print(
            f"{Path(path).name}: turned as its EXIF data say: --box and --eyes count in the "
            f"picture as shown ({shapes[0]}), not as stored ({shapes[1]})",
            file=sys.stderr,
        )


def _check_image(image: Image, *, name: str) -> None:
    got = type(image).__name__
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return
        got = f"{image.dtype} {image.shape}"
    raise ValueError(
        f"{name}: expected RGB of 0 to 255 as a uint8 array (height, width, 3), got {got}; scale "
        "and round other numbers first, repeat a grey channel three times"
    )


def _check_box(photo: Image, box: Box) -> None:
    if len(box) != 4 or not all(isinstance(edge, (int, np.integer)) for edge in box):
        raise ValueError(f"box: expected four whole numbers: left, top, right, bottom; got {box}")
    left, top, right, bottom = box
    height, width = photo.shape[:2]
    if right <= left or bottom <= top:
        raise ValueError(f"box {tuple(box)} has no area")
    seen_width, seen_height = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
    if 2 * max(seen_width, 0) * max(seen_height, 0) < (right - left) * (bottom - top):
        raise ValueError(f"box {tuple(box)} lies mostly outside {width} x {height} px")


def _angle(levelled: dict[str, Any] | None, eyes: Sequence[tuple[float, float]]) -> float | None:
    """By how many degrees the eye line falls to the right; None if training would not turn it."""
    if levelled is None:
        raise ValueError("eyes: the faces of this model were not levelled; leave them out")
    (right_x, right_y), (left_x, left_y) = eyes
    if not all(map(math.isfinite, (right_x, right_y, left_x, left_y))):
        raise ValueError(f"eyes: expected numbers, got {eyes}")
    angle = round(math.degrees(math.atan2(left_y - right_y, left_x - right_x)), 1)
    return angle if abs(angle) <= levelled["max_angle"] else None


def _turned(photo: Image, x: int, y: int, *, side: int, angle: float) -> Image:
    """The square at (x, y), turned about its centre so that a line at `angle` is level."""
    # Only what the turned square can reach: OpenCV's warps take no photo above 32,767 px.
    reach = side // 4 + 2
    left, top = max(x - reach, 0), max(y - reach, 0)
    region = photo[top : y + side + reach, left : x + side + reach]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    centre = np.full(2, (side - 1) / 2)
    matrix = np.column_stack([turn, centre - turn @ centre + (x - left, y - top)])
    flags, border = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
    turned = cv2.warpAffine(region, matrix, (side, side), flags=flags, borderMode=border)
    return np.asarray(turned, np.uint8)


def _resized(face: Image, size: tuple[int, int], *, way: str) -> Image:
    return np.asarray(cv2.resize(face, size, interpolation=getattr(cv2, way)), np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())
