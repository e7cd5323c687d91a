"""The committed sample: drawn by the door, in the real formats, with what was planted in it."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from shipped import shipped
from small_project import ROOT

from stages.config import CLASSES, ExpwSource, FerplusSource, Folder7Source, RafdbSource
from stages.faces.decode import BoxPx, UnusableImageError, decode
from stages.intake.crop import crop_square
from stages.sources.formats import read_source
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import open_tree
from tools.sample import __main__ as sample
from tools.sample.folder import INDEX, check_replaceable

SAMPLE = ROOT / "raw" / "sample"
SOURCES = {
    "ferplus": shipped(FerplusSource, format="ferplus", path="ferplus"),
    "rafdb_basic": RafdbSource(format="rafdb_basic", path="rafdb_basic"),
    "affectnet_full_balanced": Folder7Source(format="folder7", path="affectnet_full_balanced"),
    "expw": shipped(ExpwSource, format="expw", path="expw"),
}
PLANTED = json.loads((SAMPLE / INDEX).read_text("utf-8"))["planted"]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def planted(kind: str) -> list[dict[str, str]]:
    return [fault for fault in PLANTED if fault["kind"] == kind]


@pytest.fixture(scope="module")
def rows() -> list[Candidate | Reject]:
    return [
        row
        for name, source in SOURCES.items()
        for row in read_source(open_tree(SAMPLE / name, key=name), name=name, source=source)
    ]


def pixels(place: str) -> np.ndarray:
    """The decoded picture at a path of the sample, whichever of its faces is meant."""
    return decode((SAMPLE / place.partition("#")[0]).read_bytes())


def test_a_fresh_drawing_is_the_committed_one(tmp_path):
    """Pixels of PNGs, since zlib may pack them otherwise; the bytes of everything else.

    JPEGs come from the libjpeg-turbo inside opencv, whose integer transform gives the same bytes on
    every processor; another opencv release may bring another libjpeg-turbo. If this test fails on
    JPEGs alone after such an update, look at the pictures, draw the sample anew and commit it.
    """
    assert sample.main([str(tmp_path / "sample")]) == 0
    fresh, committed = contents(tmp_path / "sample"), contents(SAMPLE)
    assert sorted(fresh) == sorted(committed)
    assert json.loads(fresh.pop(INDEX))["planted"] == PLANTED
    differing = [path for path, data in fresh.items() if not same(path, data, committed[path])]
    assert differing == []


def same(path: str, fresh: bytes, committed: bytes) -> bool:
    if fresh == committed or not path.endswith(".png"):
        return fresh == committed
    arrays = (np.frombuffer(data, np.uint8) for data in (fresh, committed))
    first, second = (cv2.imdecode(array, cv2.IMREAD_UNCHANGED) for array in arrays)
    return first is not None and np.array_equal(first, second)


def test_the_committed_sample_is_small_and_untouched():
    check_replaceable(SAMPLE)
    assert sum(len(data) for data in contents(SAMPLE).values()) < 5_500_000


def test_every_row_is_a_face_or_a_planted_reject(rows):
    reasons = Counter(row.reason for row in rows if isinstance(row, Reject))
    assert set(reasons) == {"not_a_class", "no_majority", "box_repeated"}
    assert reasons["box_repeated"] == len(planted("line_repeated")) == 1
    assert reasons["no_majority"] >= 8
    contempt = [row for row in rows if isinstance(row, Reject) and "ontempt" in row.detail]
    assert len(contempt) == len(planted("contempt")) >= 10
    details = {row.detail for row in rows if isinstance(row, Reject)}
    assert {"unknown", "NF"} <= details
    assert 1450 <= sum(isinstance(row, Candidate) for row in rows) <= 1700


def test_every_split_has_every_class_and_votes_spread_as_a_crowd_s_do(rows):
    faces = [row for row in rows if isinstance(row, Candidate)]
    counts = Counter((row.split, row.label) for row in faces)
    for split, least in {"train": 80, "val": 20, "test": 20, None: 15}.items():
        assert min(counts[split, name] for name in CLASSES) >= least, split
    votes = np.array([row.votes for row in faces if row.votes])
    winners = (votes / votes.sum(axis=1, keepdims=True)).max(axis=1)
    assert 0.7 < winners.mean() < 0.9
    assert 0.2 < (winners < 0.75).mean() < 0.6


def test_planted_copies_are_copies_of_the_pixels():
    copies = [fault for fault in PLANTED if fault["kind"].startswith("copy")]
    kinds = ("same_label", "other_label", "across_splits", "across_sources")
    assert {fault["kind"] for fault in copies} == {f"copy_{kind}" for kind in kinds}
    for fault in copies:
        assert np.array_equal(pixels(fault["at"]), pixels(fault["of"])), fault


def test_near_copies_are_alike_and_not_equal():
    assert (len(planted("near_copy")), len(planted("mirrored_copy"))) == (2, 1)
    for fault in [*planted("near_copy"), *planted("mirrored_copy")]:
        copy, picture = pixels(fault["at"]), pixels(fault["of"])
        assert not np.array_equal(copy, picture)
        turned = picture[:, ::-1] if fault["kind"] == "mirrored_copy" else picture
        assert np.corrcoef(copy.ravel(), turned.ravel())[0, 1] > 0.95


def test_nothing_else_is_a_copy_and_some_are_in_other_bytes_or_with_another_label(rows):
    broken = {fault["at"] for fault in planted("undecodable")}
    files = {path: data for path, data in contents(SAMPLE).items() if path not in broken}
    files = {path: data for path, data in files.items() if path.endswith((".png", ".jpg"))}
    copies = {f["at"].partition("#")[0] for f in PLANTED if f["kind"].startswith("copy")}
    assert len(files) - len({decode(data).tobytes() for data in files.values()}) == len(copies)
    assert len(copies) > len(files) - len(set(files.values()))
    labels = {row.id: row.label for row in rows if isinstance(row, Candidate)}
    (fault,) = planted("copy_other_label")
    at, of = (labels[f"ferplus/{Path(fault[key]).stem}"] for key in ("at", "of"))
    assert at != of


def test_undecodable_pictures_and_outside_boxes_are_unusable(rows):
    for fault in planted("undecodable"):
        with pytest.raises(UnusableImageError):
            decode((SAMPLE / fault["at"]).read_bytes())
    (outside,) = planted("box_outside")
    (row,) = [row for row in rows if f"expw/{row.row}" == outside["at"]]
    image = decode((SAMPLE / "expw" / row.member).read_bytes())
    with pytest.raises(UnusableImageError):
        crop_square(
            image, box=BoxPx(row.box.left, row.box.top, row.box.right, row.box.bottom), margin=0.3
        )
