"""No id twice, no face twice, and versions of one photo are one photo."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import Box
from stages.sources.formats import settle_repeats
from stages.sources.rows import Candidate, Reject
from tests.sources.conftest import Files, MakeTree, rows_of

BOX, OTHER = (
    Box(0, 0, 9, 9, unit="px", pixels="stored"),
    Box(1, 1, 9, 9, unit="px", pixels="stored"),
)


def face(row: str, *, member: str = "a.jpg", **changes) -> Candidate:
    whole = Candidate(row, f"it/{row}", member, "Happy", "train", photo=f"it/{member}")
    return replace(whole, **changes)


def settled(*rows: Candidate | Reject) -> list[str]:
    return [getattr(row, "reason", "face") for row in settle_repeats(rows)]


def test_the_first_of_equal_rows_stays_and_rows_keep_their_places():
    other = Reject("3", "not_a_class")
    rows = list(settle_repeats([face("1"), face("2"), other, face("4", member="b.jpg")]))
    assert rows == [
        face("1"),
        Reject("2", "row_repeated", "a.jpg stands in 1", "a.jpg"),
        other,
        face("4", member="b.jpg"),
    ]


def test_a_face_listed_twice_is_left_out_by_rule_and_faces_that_disagree_all_go():
    boxed = [face("1", box=BOX), face("2", box=OTHER), face("3", box=BOX)]
    assert settled(*boxed) == ["face", "face", "box_repeated"]
    rows = list(settle_repeats([face("1"), face("2"), face("3", label="Sad", split="test")]))
    assert {(row.reason, row.detail) for row in rows} == {
        ("label_contradictory", "a.jpg: Happy (train) in 1, Happy (train) in 2, Sad (test) in 3")
    }
    assert settled(face("1"), face("2", split="val")) == ["label_contradictory"] * 2
    unsplit = face("1", box=BOX, split=None)
    assert settled(unsplit, replace(unsplit, label="Sad")) == ["label_contradictory"] * 2


def test_many_rows_that_disagree_are_counted_and_not_all_named():
    labels = ["Happy", "Sad"] * 5_000
    rows = list(settle_repeats(face(str(n), label=label) for n, label in enumerate(labels)))
    assert rows[0].detail.endswith("Happy (train) in 4, and 9995 more")


def test_an_id_belongs_to_one_picture():
    rows = list(settle_repeats([face("1", id="x"), face("2", id="x", member="b.jpg", label="Sad")]))
    assert rows[1] == Reject("2", "row_repeated", "1 has the same id, x", "b.jpg")


def test_a_row_that_went_leaves_its_id_to_others():
    rows = [face("1", id="x"), face("2", label="Sad"), face("3", id="x", member="b.jpg")]
    assert settled(*rows) == ["label_contradictory", "label_contradictory", "face"]


@pytest.mark.parametrize("sign", ["\t", "\n", "\r", "\x00", "\x1f", "\x7f"])
def test_names_with_control_characters_are_no_names(sign):
    named = face("1", id=f"it/a{sign}b", member=f"a{sign}b.jpg")
    (reject,) = settle_repeats([named])
    assert (reject.row, reject.reason, reject.member) == ("1", "row_malformed", f"a{sign}b.jpg")
    assert repr(f"a{sign}b")[1:-1] in reject.detail
    assert settled(face("1", photo=f"it/{sign}")) == ["row_malformed"]
    # What else names that face stands.
    assert settled(face("1", id=f"{sign}", label="Sad"), face("2")) == ["row_malformed", "face"]


faces = st.builds(
    face,
    st.just("?"),
    member=st.sampled_from(["a.jpg", "b.jpg"]),
    id=st.sampled_from(["x", "y", "z"]),
    box=st.sampled_from([None, BOX, OTHER]),
    label=st.sampled_from(["Happy", "Happy", "Happy", "Sad"]),
)


@given(st.lists(faces | st.just(Reject("?", "not_a_class")), max_size=12))
def test_what_is_left_is_unique_and_agreed_upon(drawn):
    rows = [replace(row, row=str(number)) for number, row in enumerate(drawn)]
    result = list(settle_repeats(rows))
    assert [row.row for row in result] == [row.row for row in rows]
    kept = [row for row in result if isinstance(row, Candidate)]
    assert all(row in rows for row in kept)
    assert max(Counter(row.id for row in kept).values(), default=1) == 1
    assert max(Counter((row.member, row.box) for row in kept).values(), default=1) == 1
    given_labels = {(row.member, row.box, row.label) for row in rows if isinstance(row, Candidate)}
    for row in kept:
        assert len({face for face in given_labels if face[:2] == (row.member, row.box)}) == 1


# --- versions of one photo, as annotation tools write them ---------------------------------------

HASHES = ["8b46c56305c64ea2a18e04f4d1ff1f59", "Xy3vqPLpl3kAYmdYLGfN"]


def photos_of(make_tree: MakeTree, files: Files, form: str) -> dict[str, str]:
    return {row.id: row.photo for row in rows_of(make_tree(files), form)}


def test_reported_versions_of_one_photo_are_one_photo(make_tree: MakeTree) -> None:
    folders = {f"train/happy/a_jpg.rf.{digest}.jpg": digest for digest in HASHES}
    folders |= {f"{split}/happy/a_jpg.rf.{HASHES[0]}.png": split for split in ("test", "valid")}
    photos = photos_of(make_tree, folders, "folder7")
    assert set(photos.values()) == {"it/happy/a_jpg"}
    # Ids stay as they were: each version is a face of its own.
    assert len(photos) == 4
    assert f"it/train/happy/a_jpg.rf.{HASHES[0]}" in photos


def test_reported_versions_of_one_photo_with_label_files(make_tree: MakeTree) -> None:
    pairs: dict[str, str | bytes] = {"data.yaml": "names: [happy]\n"}
    for split, digest in (("train", HASHES[0]), ("train", HASHES[1]), ("valid", HASHES[0])):
        pairs[f"{split}/images/a_png.rf.{digest}.jpg"] = f"{split} {digest}"
        pairs[f"{split}/labels/a_png.rf.{digest}.txt"] = "0 .5 .5 .2 .2\n0 .3 .3 .2 .2\n"
    photos = photos_of(make_tree, pairs, "affectnet_yolo")
    assert len(photos) == 6
    assert set(photos.values()) == {"it/a_png"}


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
    photos = photos_of(make_tree, {name: b"1", other: b"2"}, "folder7")
    assert len(set(photos.values())) == 2


def test_class_folders_that_differ_by_letter_case_are_read_both(make_tree: MakeTree) -> None:
    photos = photos_of(make_tree, {"train/Happy/1.jpg": b"1", "train/happy/1.jpg": b"2"}, "folder7")
    assert list(photos) == ["it/train/Happy/1", "it/train/happy/1"]
