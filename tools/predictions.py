"""Frames and a model -> faces.csv, rejects.csv, annotated copies and a contact sheet."""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.config import CLASSES
from stages.exporting.reference import Expressions
from stages.faces.decode import BoxPx, Image
from stages.faces.sheet import captioned_sheet, fit
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.files import published_folder, write_bytes, write_csv
from stages.runtime.signals import stop_on_signals
from tools.frames import INTERRUPTED, Face, FindFaces, Frame, Input, read_frames

FACES, REJECTS, ANNOTATED, SHEET = "faces.csv", "rejects.csv", "annotated", "sheet.png"
COLUMNS = ("file", "frame", "left", "top", "right", "bottom", "label", *CLASSES)

_BATCH = 32  # faces
_MAX_PIXELS = 50_000_000  # of frames that wait for their batch: 150 MB
_DIGITS = 6
_SHEET_FACES = 24  # of a class
_SHEET_COLUMNS = 12
_LISTED = 10
_MIN_SIDE_PX = 320  # smaller pictures are enlarged, so that a label can be read
_FONT, _FONT_PX = cv2.FONT_HERSHEY_SIMPLEX, 22  # height of a capital at scale 1
_FILL, _INK = (255, 214, 0), (0, 0, 0)

logger = logging.getLogger(__name__)


class NamedFace(NamedTuple):
    """A face with its label, and its probabilities (7,) in class order."""

    box: BoxPx
    image: Image
    label: str
    probabilities: NDArray[np.float32]

    @property
    def sureness(self) -> float:
        """Return the probability of the label."""
        return float(self.probabilities[CLASSES.index(self.label)])


def require_replaceable(out: Path, *, overwrite: bool) -> None:
    """Refuse with a `UserError` a place that exists, unless it may and holds predictions alone."""
    if not (out.exists() or out.is_symlink()):
        return
    if not overwrite:
        raise UserError(f"{out}: exists; name another folder by --out, or replace it: --overwrite")
    wanted, table = f"{out}: expected predictions to replace, found", out / FACES
    if not table.is_file():
        raise UserError(f"{wanted} no {FACES} in it")
    with table.open("rb") as file:
        header = file.readline(1000).decode("utf-8", errors="replace").strip()
    if header != ",".join(COLUMNS):
        raise UserError(f"{wanted} a {FACES} with other columns in it")
    known = {FACES, REJECTS, ANNOTATED, SHEET}
    if foreign := sorted({path.name for path in out.iterdir()} - known):
        rest = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        raise UserError(f"{wanted} {foreign[0]}{rest} beside them")


def predict(inputs: Sequence[Input], model: Expressions, *, find: FindFaces, out: Path) -> None:
    """Write the folder `out`, which appears whole or not at all, and log what is in it.

    Raises:
        UserError: if no input could be read.
        InterruptedRunError: if a stop signal left something unread; `out` holds what was read.
    """
    rows: list[tuple[object, ...]] = []
    unreadable: dict[str, str] = {}
    num_faces: Counter[str] = Counter()
    sheet = FaceSample()
    with (
        stop_on_signals() as stop,
        published_folder(out) as folder,
        closing(AnnotatedFiles(folder / ANNOTATED)) as annotated,
    ):
        frames = read_frames(inputs, unreadable=unreadable, stop=stop)
        for frame, faces in _named(frames, model, find=find):
            name = frame.origin.name
            num_faces[name] += len(faces)
            for face in faces:
                numbers = face.probabilities.astype(float).round(_DIGITS).tolist()
                rows.append((name, frame.number, *face.box, face.label, *numbers))
                sheet.add(face, caption=f"{face.sureness:.2f} {frame.caption}")
            annotated.add(frame, annotate(frame.photo, faces))
        num_left = sum(reason.startswith(INTERRUPTED) for reason in unreadable.values())
        if num_left and not num_faces:
            raise InterruptedRunError(stop.signal_number, "nothing was read, nothing is written")
        if not num_faces:
            name, reason = next(iter(unreadable.items()))
            rest = f" (and {len(unreadable) - 1:,} more)" if len(unreadable) > 1 else ""
            raise UserError(f"nothing could be read: {name}{rest}: {reason}")
        without = {name: "no face was found" for name, count in num_faces.items() if not count}
        write_csv(folder / FACES, pd.DataFrame(rows, columns=list(COLUMNS)))
        rejects = [*unreadable.items(), *without.items()]
        write_csv(folder / REJECTS, pd.DataFrame(rejects, columns=["file", "reason"]))
        if rows:
            write_bytes(folder / SHEET, sheet.draw())
    counts = Counter(str(row[COLUMNS.index("label")]) for row in rows)
    labels = ", ".join(f"{name} {counts[name]:,}" for name in CLASSES if counts[name])
    for row in rows if len(rows) <= _LISTED else ():
        answer = dict(zip(COLUMNS, row, strict=True))
        label = str(answer["label"])
        logger.info("%s: %s %.2f", answer["file"], label, answer[label])
    logger.info("%s: faces: %s (%s)", out / FACES, f"{len(rows):,}", labels)
    if without:
        logger.warning("%s inputs without a face; %s names them", f"{len(without):,}", REJECTS)
    if unreadable:
        listed = [f"{file} ({reason})" for file, reason in unreadable.items()][:_LISTED]
        if more := len(unreadable) - len(listed):
            listed.append(f"{more:,} more in {REJECTS}")
        shown = "; ".join(listed)
        logger.warning("%s inputs could not be read whole: %s", f"{len(unreadable):,}", shown)
    if num_left:
        kept = f"{out} holds what was read; its {REJECTS} names {num_left:,} inputs left"
        raise InterruptedRunError(stop.signal_number, kept)


def annotate(photo: Image, faces: Iterable[NamedFace]) -> Image:
    """Copy a photo with the box of each face, its label and the label's probability.

    Lines and letters grow with the photo and the box; a small photo is enlarged.
    """
    scale = max(1.0, _MIN_SIDE_PX / max(photo.shape[:2]))
    size = [max(1, round(side * scale)) for side in photo.shape[1::-1]]
    drawn = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else photo.copy()
    height, width = drawn.shape[:2]
    longest = max(height, width)
    for face in faces:
        left, top, right, bottom = (round(edge * scale) for edge in face.box)
        text = f"{face.label} {face.sureness:.2f}"
        letter_px = min(max((right - left) / 9, 10, longest / 140), max(longest / 25, 10))
        text_px = _text_px(text, letter_px)
        # Never wider than the photo.
        if (widest := width - letter_px) < text_px:
            letter_px *= max(widest, 1) / text_px
            text_px = _text_px(text, letter_px)
        line_px, pad = max(1, round(letter_px / 7)), letter_px / 2
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), _FILL, line_px)
        strip_width, strip_height = round(text_px + 2 * pad), round(2 * letter_px)
        # Above the box, or in it where there is no room; never beyond the edges.
        x = min(max(left - line_px // 2, 0), max(width - strip_width, 0))
        y = min(top - strip_height if top >= strip_height else max(top, 0), height - strip_height)
        cv2.rectangle(drawn, (x, y), (x + strip_width - 1, y + strip_height - 1), _FILL, -1)
        place = (round(x + pad), round(y + 1.5 * letter_px))
        scale_of_font, weight = letter_px / _FONT_PX, _weight(letter_px)
        cv2.putText(drawn, text, place, _FONT, scale_of_font, _INK, weight, cv2.LINE_AA)
    return np.asarray(drawn, np.uint8)


class FaceSample:
    """A random sample of the faces of each class, the same on every run over the same faces."""

    def __init__(self) -> None:
        self._random = random.Random(0)
        self._seen: Counter[str] = Counter()
        self._kept: dict[str, list[tuple[float, Image, str]]] = {name: [] for name in CLASSES}

    def add(self, face: NamedFace, *, caption: str) -> None:
        """Show a face to the sample, which keeps each of a class with equal probability."""
        self._seen[face.label] += 1
        seen, kept = self._seen[face.label], self._kept[face.label]
        place = len(kept) if len(kept) < _SHEET_FACES else self._random.randrange(seen)
        if place < _SHEET_FACES:
            kept[place : place + 1] = [(face.sureness, fit(face.image), caption)]

    def draw(self) -> bytes:
        """Draw the sample, the surest faces of each class first; returns a PNG."""
        titles = {}
        for name, kept in self._kept.items():
            seen = self._seen[name]
            count = f"{seen:,}" if seen == len(kept) else f"{len(kept)} of {seen:,}"
            surest = sorted(kept, key=lambda entry: -entry[0])
            if kept:
                titles[f"{name}\n{count}"] = [(image, caption) for _, image, caption in surest]
        return captioned_sheet(titles, columns=min(_SHEET_COLUMNS, max(map(len, titles.values()))))


class AnnotatedFiles:
    """Annotated pictures and videos in a folder; all are whole after `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._video: tuple[Input, cv2.VideoWriter] | None = None

    def add(self, frame: Frame, picture: Image) -> None:
        """Write a picture, or the next frame of a video; frames of one input come in a row."""
        path = self._folder / frame.origin.place
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if self._video and self._video[0] != frame.origin:
            self.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not frame.origin.is_moving:
            _, data = cv2.imencode(path.suffix, bgr)
            write_bytes(path, bytes(data))
            return
        if self._video is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(path), code, frame.rate, picture.shape[1::-1])
            if not writer.isOpened():
                raise UserError(f"{path.name}: this OpenCV cannot write MPEG-4 videos")
            self._video = frame.origin, writer
        self._video[1].write(bgr)

    def close(self) -> None:
        """Complete the video that is open, if any."""
        if self._video:
            self._video[1].release()
        self._video = None


def _named(
    frames: Iterable[Frame], model: Expressions, *, find: FindFaces
) -> Iterator[tuple[Frame, list[NamedFace]]]:
    """Yield the frames with their faces, which the model sees in batches."""
    batch: list[tuple[Frame, list[Face]]] = []
    for frame in frames:
        batch.append((frame, find(frame.photo)))
        pixels = sum(each.photo.size // 3 for each, _ in batch)
        if sum(len(faces) for _, faces in batch) >= _BATCH or pixels >= _MAX_PIXELS:
            yield from _name_batch(batch, model)
            batch = []
    yield from _name_batch(batch, model)


def _name_batch(
    batch: Sequence[tuple[Frame, list[Face]]], model: Expressions
) -> Iterator[tuple[Frame, list[NamedFace]]]:
    images = [face.image for _, faces in batch for face in faces]
    parts = [model.predict(images[k : k + _BATCH]) for k in range(0, len(images), _BATCH)]
    answers = iter([pair for part in parts for pair in zip(*part, strict=True)])
    for frame, faces in batch:
        yield frame, [NamedFace(*face, *next(answers)) for face in faces]


def _text_px(text: str, letter_px: float) -> int:
    """Measure how wide a text is with capitals of a height."""
    (width, _), _ = cv2.getTextSize(text, _FONT, letter_px / _FONT_PX, _weight(letter_px))
    return int(width)


def _weight(letter_px: float) -> int:
    return max(1, round(letter_px / 9))
