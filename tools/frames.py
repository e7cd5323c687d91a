"""What a user names -> frames of pictures, videos and cameras, and the faces in a frame."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.exporting.reference import Expressions, read_picture
from stages.faces.decode import BoxPx, Image
from stages.runtime.errors import UserError
from stages.runtime.foreign import describe, describe_file
from stages.runtime.signals import StopRequest
from stages.runtime.workers import with_progress

PICTURES = {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
MIN_SCORE = 0.7
INTERRUPTED = "interrupted"  # a reason that begins so is a stop signal

# YuNet sees faces of about 10 to 300 px: one look at the whole, one closer look for small faces.
_LOOKS_PX = (320, 1280)
_MAX_OVERLAP = 0.3  # intersection over union: two detections above it are one face
_SCORE = 14  # column of a detection; before it left, top, width, height and five points
_USUAL_RATE = 25.0  # frames per second where a camera does not say


class Face(NamedTuple):
    """A face in its photo, and the picture of it that the model is asked about."""

    box: BoxPx
    image: Image


FindFaces = Callable[[Image], list[Face]]


@dataclass(frozen=True)
class Input:
    """A picture, a video or a camera (by number): its name in tables, its place in annotated/."""

    source: Path | int
    name: str
    place: PurePath

    @property
    def is_moving(self) -> bool:
        """Return whether it has many frames."""
        return isinstance(self.source, int) or self.source.suffix.lower() in VIDEOS


class Frame(NamedTuple):
    """A frame, counted from 0, as RGB; `rate` is in frames per second, 0 for a picture."""

    origin: Input
    number: int
    photo: Image
    rate: float

    @property
    def caption(self) -> str:
        """Return a short name."""
        stem = self.origin.place.stem
        return f"{stem} {self.number}" if self.origin.is_moving else stem


def find_inputs(names: Sequence[str], *, out: Path) -> list[Input]:
    """List the files of the names, each once; of a folder all its pictures but those below `out`.

    Hidden files are no pictures. Files with equal names get different places.

    Raises:
        UserError: if something is not there, or a folder has no pictures.
    """
    sources: dict[str, tuple[Path | int, PurePath]] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            whole = Path(path.resolve().name)
            files = [f for f in sorted(path.rglob("*")) if f.suffix.lower() in PICTURES]
            files = [f for f in files if f.is_file() and not f.name.startswith(".")]
            files = [f for f in files if out.resolve() not in f.resolve().parents]
            if not files:
                raise UserError(f"{name}: expected a folder with pictures, found none in it")
            for file in files:
                sources.setdefault(file.as_posix(), (file, whole / file.relative_to(path)))
        elif path.exists():
            sources.setdefault(path.as_posix(), (path, Path(path.name)))
        elif name.isdecimal():
            sources.setdefault(f"camera {name}", (int(name), Path(f"camera{name}")))
        else:
            raise UserError(f"{name}: no such picture, folder or video")
    inputs, taken = [], set()
    for name, (source, wanted) in sources.items():
        origin = Input(source, name, wanted)
        # A copy is written as JPEG only where the picture was one.
        is_jpeg = wanted.suffix.lower() in (".jpg", ".jpeg")
        suffix = ".mp4" if origin.is_moving else wanted.suffix if is_jpeg else ".png"
        place, number = wanted.with_suffix(suffix), 1
        while str(place).casefold() in taken:
            number += 1
            place = wanted.with_name(f"{wanted.stem}-{number}{suffix}")
        taken.add(str(place).casefold())
        inputs.append(Input(source, name, place))
    return inputs


def read_frames(
    inputs: Iterable[Input], *, unreadable: dict[str, str], stop: StopRequest
) -> Iterator[Frame]:
    """Yield the frames of all inputs in order, and note why an input could not be read.

    A stop signal ends it; it is the usual end of a camera.
    """
    for origin in with_progress(inputs, name="inputs"):
        if stop.signal_number:
            unreadable[origin.name] = f"{INTERRUPTED} before it was read"
            continue
        if origin.is_moving:
            frames = _read_moving(origin, unreadable=unreadable, stop=stop)
            yield from with_progress(frames, name=origin.name)
            continue
        try:
            photo = read_picture(str(origin.source))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            unreadable[origin.name] = str(reason).removeprefix(f"{PurePath(origin.name).name}: ")
        else:
            yield Frame(origin, 0, photo, 0.0)


def whole_picture(photo: Image) -> list[Face]:
    """Take the whole picture for a face that is cut already."""
    return [Face(BoxPx(0, 0, photo.shape[1], photo.shape[0]), photo)]


class FaceFinder:
    """YuNet, which finds the faces of a photo; they are cut as the model's metadata say."""

    def __init__(self, path: Path, model: Expressions) -> None:
        """Load YuNet's ONNX file.

        Raises:
            UserError: if it is missing, or OpenCV cannot load or run it.
        """
        if not path.is_file():
            raise UserError(f"{path}: expected YuNet's ONNX file, found none")
        data = path.read_bytes()
        self._model = model
        self._is_levelled = model.metadata["preprocess"]["face"]["levelled"] is not None
        try:
            self._network = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(data, np.uint8),
                np.zeros(0, np.uint8),
                (_LOOKS_PX[0], _LOOKS_PX[0]),
                score_threshold=MIN_SCORE,
                nms_threshold=_MAX_OVERLAP,
            )
            self._look(np.zeros((9, 9, 3), np.uint8), side=_LOOKS_PX[0])
        except cv2.error as error:
            raise UserError(
                f"{path}: expected YuNet's ONNX file, got {describe(BytesIO(data))} that OpenCV "
                f"cannot run: {' '.join(error.err.split())}"
            ) from None

    def __call__(self, photo: Image) -> list[Face]:
        """Find the faces in a photo (H, W, 3), from left to right.

        Left out are faces of which less than half lies in the photo.
        """
        longest = max(photo.shape[:2])
        sides = {_LOOKS_PX[0], min(max(longest, _LOOKS_PX[0]), _LOOKS_PX[1])}
        found = np.concatenate([self._look(photo, side=side) for side in sorted(sides)])
        boxes, scores = found[:, :4], found[:, _SCORE]
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), MIN_SCORE, _MAX_OVERLAP)
        faces = []
        for left, top, width, height, *points in found[np.asarray(kept, int)].tolist():
            box = BoxPx(*(round(edge) for edge in (left, top, left + width, top + height)))
            eyes = [(points[0], points[1]), (points[2], points[3])] if self._is_levelled else None
            if _is_inside(box, photo):
                faces.append(Face(box, self._model.cut(photo, box=box, eyes=eyes)))
        return sorted(faces, key=lambda face: face.box)

    def _look(self, photo: Image, *, side: int) -> NDArray[np.float32]:
        """Detect faces (N, 15), in px of the photo, in the photo scaled to a longer side."""
        scale = side / max(photo.shape[:2])
        width, height = (max(1, round(edge * scale)) for edge in photo.shape[1::-1])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        seen = cv2.resize(photo, (width, height), interpolation=method)
        self._network.setInputSize((width, height))
        _, faces = self._network.detect(cv2.cvtColor(seen, cv2.COLOR_RGB2BGR))
        found = np.zeros((0, 15), np.float32) if faces is None else np.asarray(faces, np.float32)
        found[:, :_SCORE] /= scale
        return found


def _is_inside(box: BoxPx, photo: Image) -> bool:
    height, width = photo.shape[:2]
    seen_width = min(box.right, width) - max(box.left, 0)
    seen_height = min(box.bottom, height) - max(box.top, 0)
    area = (box.right - box.left) * (box.bottom - box.top)
    return bool(2 * max(seen_width, 0) * max(seen_height, 0) >= area > 0)


def _read_moving(
    origin: Input, *, unreadable: dict[str, str], stop: StopRequest
) -> Iterator[Frame]:
    """Yield the frames of a video or a camera."""
    is_camera, number = isinstance(origin.source, int), 0
    # Neither OpenCV nor its ffmpeg shall write lines of its own: a reason is given below.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(origin.source if is_camera else str(origin.source))
    cv2.utils.logging.setLogLevel(level)
    expected, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    while not stop.signal_number:
        is_read, frame = capture.read()
        if not is_read:
            break
        photo = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        yield Frame(origin, number, photo, rate if 0 < rate < 1000 else _USUAL_RATE)
        number += 1
    # A video has more frames than were read; a camera always has.
    is_cut = stop.signal_number and (number == 0 if is_camera else capture.grab())
    capture.release()
    if is_cut:
        unreadable[origin.name] = f"{INTERRUPTED} after {number:,} frames"
    elif number == 0 and isinstance(origin.source, Path):
        unreadable[origin.name] = f"expected a video, got {describe_file(origin.source)}"
    elif number == 0:
        unreadable[origin.name] = "expected frames, got none; is it there, and free?"
    # Some formats only estimate the number of their frames.
    elif number < 0.9 * expected and not is_camera:
        unreadable[origin.name] = f"ends after {number:,} of {expected:,.0f} frames"
