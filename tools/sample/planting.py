"""Faults planted in the sample, the kinds that real downloads have.

The faulty files and lines are added to a `Raw` with the four datasets laid out. Copies are copies
of the decoded pixels, not always of the bytes.
"""

import cv2
import numpy as np

from stages.config import CLASSES
from stages.faces.decode import BoxPx, decode
from stages.sources import rafdb
from tools.sample import layouts
from tools.sample.folder import Raw
from tools.sample.layouts import EXPW_LIST
from tools.sample.moods import ANSWERS, Votes
from tools.sample.pictures import PHOTO_PX, encode_jpeg, encode_png

ERROR_PAGE = b"<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"


def plant(raw: Raw) -> None:
    """Plant every fault."""
    _copies_in_ferplus(raw)
    _copies_from_rafdb(raw)
    _copies_within_affectnet(raw)
    _near_copies(raw)
    _copied_photo(raw)
    _undecodable(raw)
    _bad_boxes(raw)
    _contempt(raw)


def _copies_in_ferplus(raw: Raw) -> None:
    """Pictures of Train twice there, and in Test and Valid.

    The second has votes for another class, the third is compressed differently.
    """
    kinds = ("copy_same_label", "copy_other_label", *["copy_across_splits"] * 4)
    splits = ("Train", "Train", "Test", "Test", "Test", "Valid")
    rows = _clear_rows(raw)[:6]
    for number, ((path, votes), kind, split) in enumerate(zip(rows, kinds, splits, strict=True)):
        data = raw.files[path]
        if number == 1:
            votes = np.concatenate([np.roll(votes[:7], 1), votes[7:]])
        if number == 2:
            data = encode_png(decode(data)[..., 0], level=1)
        raw.plant(kind, layouts.add_ferplus_row(raw, split, data=data, votes=votes), of=path)


def _copies_from_rafdb(raw: Raw) -> None:
    """Pictures of both RAF-DB splits that stand in AffectNet's train, with the same label."""
    pictures = [*_rafdb_pictures(raw, "train")[:2], _rafdb_pictures(raw, "test")[0]]
    for number, (path, label) in enumerate(pictures):
        copy = layouts.affectnet_path("train", label, name=f"web_{number:04d}")
        raw.add(copy, raw.files[path])
        raw.plant("copy_across_sources", copy, of=path)


def _copies_within_affectnet(raw: Raw) -> None:
    """Train pictures linked again under a hashed name, as by a cleaner that ran twice."""
    for label in ("Fear", "Happy"):
        folder = f"affectnet_full_balanced/train/{layouts.AFFECTNET_FOLDERS[label]}/train_"
        path = min(path for path in raw.files if path.startswith(folder))
        copy = path.replace("/train_", "/3f9a2c71_train_")
        raw.add(copy, raw.files[path])
        raw.plant("copy_same_label", copy, of=path)


def _near_copies(raw: Raw) -> None:
    """Pictures of RAF-DB's test that stand in AffectNet's train brightened or mirrored."""
    for number, (path, label) in enumerate(_rafdb_pictures(raw, "test")[1:4]):
        image = decode(raw.files[path])
        kind = "mirrored_copy" if number == 2 else "near_copy"
        changed = image[:, ::-1] if kind == "mirrored_copy" else cv2.convertScaleAbs(image, beta=20)
        copy = layouts.affectnet_path("train", label, name=f"web_10{number:02d}")
        raw.add(copy, encode_jpeg(np.asarray(changed, np.uint8)))
        raw.plant(kind, copy, of=path)


def _copied_photo(raw: Raw) -> None:
    """A photo with two faces that was downloaded twice, under two names."""
    names = [line.split()[0] for line in raw.lines[EXPW_LIST]]
    name = next(name for name in names if names.count(name) == 2)
    copy = name.replace("photo_", "again_")
    raw.add(f"expw/origin/{copy}", raw.files[f"expw/origin/{name}"])
    for line in [line for line in raw.lines[EXPW_LIST] if line.startswith(name)]:
        raw.add_line(EXPW_LIST, line.replace(name, copy))
        at, of = (f"expw/origin/{photo}#{line.split()[1]}" for photo in (copy, name))
        raw.plant("copy_same_label", at, of=of)


def _undecodable(raw: Raw) -> None:
    """A picture cut off in its header, and an error page saved as a picture."""
    path, votes = _clear_rows(raw)[6]
    cut = layouts.add_ferplus_row(raw, "Train", data=raw.files[path][:40], votes=votes)
    page = layouts.affectnet_path("train", "Sad", name="web_0404")
    raw.add(page, ERROR_PAGE)
    raw.plant("undecodable", cut)
    raw.plant("undecodable", page)


def _bad_boxes(raw: Raw) -> None:
    """A box right of and below its photo, as of an uncropped original; and a repeated line."""
    height, width = PHOTO_PX
    box = BoxPx(width + 20, height + 5, width + 100, height + 85)
    lines = raw.lines[EXPW_LIST]
    photo = lines[0].split()[0]
    last = max(int(line.split()[1]) for line in lines if line.split()[0] == photo)
    lines.append(layouts.expw_line(photo, last + 1, box, 71.5, label="Happy"))
    raw.plant("box_outside", f"{EXPW_LIST}:{len(lines)}")
    lines.append(lines[2])
    raw.plant("line_repeated", f"{EXPW_LIST}:{len(lines)}", of=f"{EXPW_LIST}:3")


def _contempt(raw: Raw) -> None:
    """Drawn with the layouts already: rows and folders of an expression that is not a class."""
    for split in ("Train", "Valid", "Test"):
        for path, votes in _rows(raw, split):
            if votes[ANSWERS.index("Contempt")] > 5:
                raw.plant("contempt", path)
    for path in sorted(raw.files):
        if "/Contempt/" in path:
            raw.plant("contempt", path)


def _rafdb_pictures(raw: Raw, split: str) -> list[tuple[str, str]]:
    """Paths and classes of the pictures of a RAF-DB split."""
    class_of = rafdb.CODES["rafdb_basic"]
    rows = (line.split() for line in raw.lines[layouts.RAFDB_LIST] if line.startswith(split))
    return [
        (f"rafdb_basic/Image/aligned/{name.removesuffix('.jpg')}_aligned.jpg", class_of[code])
        for name, code in rows
    ]


def _rows(raw: Raw, split: str) -> list[tuple[str, Votes]]:
    """Paths and votes (in the order of `ANSWERS`) of the pictures of a FERPlus split."""
    folder = f"ferplus/FER2013{split}"
    places = [layouts.FERPLUS_COLUMNS.index(name) for name in ANSWERS]
    rows = []
    for line in raw.lines[f"{folder}/label.csv"]:
        name, counts = line.split(',"(0, 0, 48, 48)",')
        rows.append((f"{folder}/{name}", np.array(counts.split(","), np.int64)[places]))
    return rows


def _clear_rows(raw: Raw) -> list[tuple[str, Votes]]:
    """The rows of Train on which at least eight of ten agree on one of the seven classes."""
    return [row for row in _rows(raw, "Train") if row[1][: len(CLASSES)].max() >= 8]
