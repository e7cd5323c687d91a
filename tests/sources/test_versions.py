"""Versions of one photo, as annotation tools write them, are one photo."""

import pytest

from stages.config import AffectnetYoloSource, Folder7Source
from stages.sources.formats import read_source
from stages.sources.rows import Candidate
from tests.sources.conftest import Files, MakeTree

FOLDERS = Folder7Source(format="folder7", path="x")
YOLO = AffectnetYoloSource(format="affectnet_yolo", path="x")
ONE, TWO = "8b46c56305c64ea2a18e04f4d1ff1f59", "Xy3vqPLpl3kAYmdYLGfN"


def photos(make_tree: MakeTree, files: Files, source: Folder7Source | AffectnetYoloSource) -> dict:
    rows = read_source(make_tree(files), name="s", source=source)
    return {row.id: row.photo for row in rows if isinstance(row, Candidate)}


def test_reported_versions_of_one_photo_are_one_photo(make_tree: MakeTree) -> None:
    found = photos(
        make_tree,
        {
            f"train/happy/a_jpg.rf.{ONE}.jpg": b"1",
            f"train/happy/a_jpg.rf.{TWO}.jpg": b"2",
            f"test/happy/a_jpg.rf.{TWO}.jpg": b"3",
            f"valid/happy/a_jpg.rf.{ONE}.png": b"4",
        },
        FOLDERS,
    )
    assert set(found.values()) == {"s/happy/a_jpg"}
    # Ids stay as they were: each version is a face of its own.
    assert len(found) == 4
    assert f"s/train/happy/a_jpg.rf.{ONE}" in found


def test_reported_versions_of_one_photo_with_label_files(make_tree: MakeTree) -> None:
    names = {"train": [ONE, TWO], "valid": [ONE]}
    files = {"data.yaml": "names: [happy]\n"}
    for split, hashes in names.items():
        for digest in hashes:
            files[f"{split}/images/a_png.rf.{digest}.jpg"] = f"{split} {digest}"
            files[f"{split}/labels/a_png.rf.{digest}.txt"] = "0 .5 .5 .2 .2\n0 .3 .3 .2 .2\n"
    found = photos(make_tree, files, YOLO)
    assert len(found) == 6
    assert set(found.values()) == {"s/a_png"}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("train/happy/a_jpg.rf.1.jpg", "train/happy/b_jpg.rf.1.jpg"),  # another photo
        ("train/happy/a_jpg.rf.1.jpg", "train/sad/a_jpg.rf.1.jpg"),  # names recur in class folders
        ("train/happy/a_jpg.rf.1.jpg", "train/happy/a_png.rf.1.jpg"),  # a.jpg is not a.png
        ("train/happy/a_jpg.rf.1.jpg", "train/happy/a_jpg.jpg"),
        ("train/happy/a.1.jpg", "test/happy/a.1.jpg"),
        ("train/happy/a.rf.jpg", "train/happy/b.rf.jpg"),
        ("train/happy/deep/a.rf.1.jpg", "train/happy/a.rf.1.jpg"),
    ],
)
def test_other_names_stay_two_photos(make_tree: MakeTree, name: str, other: str) -> None:
    found = photos(make_tree, {name: b"1", other: b"2"}, FOLDERS)
    assert len(set(found.values())) == 2


def test_class_folders_that_differ_by_letter_case_are_read_both(make_tree: MakeTree) -> None:
    found = photos(make_tree, {"train/Happy/1.jpg": b"1", "train/happy/1.jpg": b"2"}, FOLDERS)
    assert list(found) == ["s/train/Happy/1", "s/train/happy/1"]
