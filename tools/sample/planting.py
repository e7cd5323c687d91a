"""Faults planted in the sample, the kinds that real downloads have.

In: a `Raw` with the four datasets laid out, to which the faulty files and lines are added. Out: the
list of what was planted, for the sample's README and for tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from stages.config import CLASSES
from stages.faces.decode import BoxPx
from tools.sample.crowd import ANSWERS, Votes
from tools.sample.layouts import (
    AFFECTNET_FOLDERS,
    EXPW_LIST,
    FERPLUS_COLUMNS,
    RAFDB_CODES,
    RAFDB_LIST,
    add_ferplus_row,
    affectnet_path,
    expw_line,
)
from tools.sample.portrait import PHOTO_PX
from tools.sample.raw import Raw, encode_jpeg, encode_png

ERROR_PAGE = b"<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"


@dataclass(frozen=True)
class Planted:
    """A fault: its kind, the file or line that is at fault and, for a copy, what it copies."""

    kind: str
    at: str
    of: str = ""


def plant(raw: Raw) -> list[Planted]:
    """Plant every fault; copies are copies of the decoded pixels, not always of the bytes."""
    return [
        *_copies_in_ferplus(raw),
        *_copies_from_rafdb(raw),
        *_copies_within_affectnet(raw),
        *_near_copies(raw),
        *_copied_photo(raw),
        *_undecodable(raw),
        *_bad_boxes(raw),
        *_contempt(raw),
    ]


def _copies_in_ferplus(raw: Raw) -> Iterator[Planted]:
    """Pictures of Train twice there, and in Test and Valid.

    The second has votes for another class, the third is compressed differently.
    """
    kinds = ("copy_same_label", "copy_other_label", *["copy_across_splits"] * 4)
    splits = ("Train", "Train", "Test", "Test", "Test", "Valid")
    rows = _clear_rows(raw, "Train")[:6]
    for number, ((name, votes), kind, split) in enumerate(zip(rows, kinds, splits, strict=True)):
        path = f"ferplus/FER2013Train/{name}"
        data = raw.files[path]
        if number == 1:
            votes = np.concatenate([np.roll(votes[:7], 1), votes[7:]])
        if number == 2:
            grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
            data = encode_png(np.asarray(grey, np.uint8), level=1)
        copy = add_ferplus_row(raw, split, data=data, votes=votes)
        yield Planted(kind, f"ferplus/FER2013{split}/{copy}", of=path)


def _copies_from_rafdb(raw: Raw) -> Iterator[Planted]:
    """Pictures of both RAF-DB splits that stand in AffectNet's train, with the same label."""
    class_of = {str(code): name for name, code in RAFDB_CODES.items()}
    rows = [line.split() for line in raw.lines[RAFDB_LIST]]
    train, test = ([row for row in rows if row[0].startswith(name)] for name in ("train", "test"))
    for number, (name, code) in enumerate([*train[:2], test[0]]):
        path = f"rafdb_basic/Image/aligned/{name.removesuffix('.jpg')}_aligned.jpg"
        copy = affectnet_path("train", class_of[code], name=f"web_{number:04d}")
        raw.add(copy, raw.files[path])
        yield Planted("copy_across_sources", copy, of=path)


def _copies_within_affectnet(raw: Raw) -> Iterator[Planted]:
    """Train pictures linked again under a hashed name, as by a cleaner that ran twice."""
    for label in ("Fear", "Happy"):
        folder = f"affectnet_full_balanced/train/{AFFECTNET_FOLDERS[label]}/train_"
        path = next(path for path in sorted(raw.files) if path.startswith(folder))
        copy = path.replace("/train_", "/3f9a2c71_train_")
        raw.add(copy, raw.files[path])
        yield Planted("copy_same_label", copy, of=path)


def _near_copies(raw: Raw) -> Iterator[Planted]:
    """Pictures of RAF-DB's test that stand in AffectNet's train brightened or mirrored."""
    class_of = {str(code): name for name, code in RAFDB_CODES.items()}
    rows = [line.split() for line in raw.lines[RAFDB_LIST] if line.startswith("test")]
    for number, (name, code) in enumerate(rows[1:4]):
        path = f"rafdb_basic/Image/aligned/{name.removesuffix('.jpg')}_aligned.jpg"
        image = cv2.imdecode(np.frombuffer(raw.files[path], np.uint8), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        kind = "mirrored_copy" if number == 2 else "near_copy"
        changed = image[:, ::-1] if kind == "mirrored_copy" else cv2.convertScaleAbs(image, beta=20)
        copy = affectnet_path("train", class_of[code], name=f"web_10{number:02d}")
        raw.add(copy, encode_jpeg(np.asarray(changed, np.uint8)))
        yield Planted(kind, copy, of=path)


def _copied_photo(raw: Raw) -> Iterator[Planted]:
    """A photo with two faces that was downloaded twice, under two names."""
    names = [line.split()[0] for line in raw.lines[EXPW_LIST]]
    name = next(name for name in names if names.count(name) == 2)
    copy = name.replace("photo_", "again_")
    raw.add(f"expw/origin/{copy}", raw.files[f"expw/origin/{name}"])
    for line in [line for line in raw.lines[EXPW_LIST] if line.startswith(name)]:
        raw.add_line(EXPW_LIST, line.replace(name, copy))
        at, of = (f"expw/origin/{photo}#{line.split()[1]}" for photo in (copy, name))
        yield Planted("copy_same_label", at, of=of)


def _undecodable(raw: Raw) -> Iterator[Planted]:
    """A picture cut off in its header, and an error page saved as a picture."""
    name, votes = _clear_rows(raw, "Train")[6]
    cut = add_ferplus_row(
        raw, "Train", data=raw.files[f"ferplus/FER2013Train/{name}"][:40], votes=votes
    )
    page = affectnet_path("train", "Sad", name="web_0404")
    raw.add(page, ERROR_PAGE)
    yield Planted("undecodable", f"ferplus/FER2013Train/{cut}")
    yield Planted("undecodable", page)


def _bad_boxes(raw: Raw) -> Iterator[Planted]:
    """A box right of and below its photo, as of an uncropped original; and a repeated line."""
    height, width = PHOTO_PX
    box = BoxPx(width + 20, height + 5, width + 100, height + 85)
    photo = raw.lines[EXPW_LIST][0].split()[0]
    faces = [line.split() for line in raw.lines[EXPW_LIST]]
    last = max(int(face[1]) for face in faces if face[0] == photo)
    raw.add_line(EXPW_LIST, expw_line(photo, last + 1, box, 71.5, label="Happy"))
    outside = len(raw.lines[EXPW_LIST])
    repeated = 3
    raw.add_line(EXPW_LIST, raw.lines[EXPW_LIST][repeated - 1])
    again = f"{EXPW_LIST}:{len(raw.lines[EXPW_LIST])}"
    yield Planted("box_outside", f"{EXPW_LIST}:{outside}")
    yield Planted("line_repeated", again, of=f"{EXPW_LIST}:{repeated}")


def _contempt(raw: Raw) -> Iterator[Planted]:
    """Drawn with the layouts already: rows and folders of an expression that is not a class."""
    for split in ("Train", "Valid", "Test"):
        for name, votes in _rows(raw, split):
            if votes[ANSWERS.index("Contempt")] > 5:
                yield Planted("contempt", f"ferplus/FER2013{split}/{name}")
    yield from (Planted("contempt", path) for path in sorted(raw.files) if "/Contempt/" in path)


def _rows(raw: Raw, split: str) -> list[tuple[str, Votes]]:
    """Names and votes (in the order of `ANSWERS`) of a FERPlus split."""
    rows = []
    for line in raw.lines[f"ferplus/FER2013{split}/label.csv"]:
        counts = [int(count) for count in line.split('",')[1].split(",")]
        votes = np.array([counts[FERPLUS_COLUMNS.index(answer)] for answer in ANSWERS])
        rows.append((line.split(",")[0], votes))
    return rows


def _clear_rows(raw: Raw, split: str) -> list[tuple[str, Votes]]:
    """The rows on which at least eight of ten agree on one of the seven classes."""
    return [row for row in _rows(raw, split) if row[1][: len(CLASSES)].max() >= 8]
