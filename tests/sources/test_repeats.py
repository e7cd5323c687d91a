"""No id twice, no face twice, and versions of one photo are one photo."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import Box
from stages.sources.formats import settle_repeats
from stages.sources.pictures import without_jpg
from stages.sources.rows import Candidate, Reject
from tests.sources.conftest import in_memory, rows_of

BOX = Box(0, 0, 9, 9, unit="px", pixels="stored")
OTHER = Box(1, 1, 9, 9, unit="px", pixels="stored")


def face(row: str, *, member: str = "a.jpg", **changes) -> Candidate:
    whole = Candidate(row, f"it/{row}", member, "Happy", "train", photo=f"it/{member}")
    return replace(whole, **changes)


def settled(*rows: Candidate | Reject) -> list[str]:
    return [getattr(row, "reason", "face") for row in settle_repeats(rows)]


def test_the_first_of_equal_rows_stays_and_rows_keep_their_places():
    rows = [face("1"), face("2"), Reject("3", "not_a_class"), face("4", member="b.jpg", id="it/1")]
    assert list(settle_repeats(rows)) == [
        face("1"),
        Reject("2", "row_repeated", "a.jpg stands in 1", "a.jpg"),
        Reject("3", "not_a_class"),
        Reject("4", "row_repeated", "1 has the same id, it/1", "b.jpg"),
    ]


def test_faces_that_disagree_all_go_and_leave_their_ids_to_others():
    rows = [face("1", id="x"), face("2"), face("3", label="Sad", split="test")]
    *contradictory, last = settle_repeats([*rows, face("4", id="x", member="b.jpg")])
    assert {(row.reason, row.detail) for row in contradictory} == {
        ("label_contradictory", "a.jpg: Happy (train) in 1, Happy (train) in 2, Sad (test) in 3")
    }
    assert isinstance(last, Candidate)
    assert settled(face("1"), face("2", split="val")) == ["label_contradictory"] * 2
    labels = ["Happy", "Sad"] * 5_000
    many = list(settle_repeats(face(str(n), label=label) for n, label in enumerate(labels)))
    assert many[0].detail.endswith("Happy (train) in 4, and 9995 more")


@pytest.mark.parametrize("sign", ["\t", "\n", "\x00", "\x7f"])
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


def photos_of(names: Iterable[str]) -> set[str]:
    rows = rows_of(in_memory(dict.fromkeys(names, b"x")), "folder7")
    assert {row.id for row in rows} == {f"it/{without_jpg(name)}" for name in names}
    return {row.photo for row in rows}


def test_reported_versions_of_one_photo_are_one_photo() -> None:
    versions = [f"train/happy/a_jpg.rf.{digest}.jpg" for digest in HASHES]
    others = [f"{split}/happy/a_jpg.rf.{HASHES[0]}.png" for split in ("test", "valid")]
    assert photos_of([*versions, *others]) == {"it/happy/a_jpg"}


def test_reported_versions_of_one_photo_with_label_files() -> None:
    pairs: dict[str, str | bytes] = {"data.yaml": "names: [happy]\n"}
    for split, digest in (("train", HASHES[0]), ("train", HASHES[1]), ("valid", HASHES[0])):
        pairs[f"{split}/images/a_png.rf.{digest}.jpg"] = b"x"
        pairs[f"{split}/labels/a_png.rf.{digest}.txt"] = "0 .5 .5 .2 .2\n0 .3 .3 .2 .2\n"
    rows = rows_of(in_memory(pairs), "affectnet_yolo")
    assert [row.photo for row in rows] == ["it/a_png"] * 6


@pytest.mark.parametrize(
    "other",
    [
        "train/happy/b_jpg.rf.1.jpg",  # another photo
        "train/sad/a_jpg.rf.1.jpg",  # names recur in class folders
        "train/Happy/a_jpg.rf.1.jpg",
        "train/happy/a_png.rf.1.jpg",  # a.jpg is not a.png
        "train/happy/a_jpg.rf.jpg",
        "train/happy/deep/a_jpg.rf.1.jpg",
    ],
)
def test_other_names_stay_two_photos(other: str) -> None:
    assert len(photos_of(["train/happy/a_jpg.rf.1.jpg", other])) == 2
