from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import Box
from stages.sources.formats import settle_repeats
from stages.sources.rows import Candidate, Reject

ONE, OTHER = (
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


def test_a_face_listed_twice_is_left_out_by_rule():
    assert settled(face("1", box=ONE), face("2", box=OTHER), face("3", box=ONE)) == [
        "face", "face", "box_repeated",
    ]  # fmt: skip


def test_rows_that_disagree_all_go_and_say_what_they_said():
    rows = list(settle_repeats([face("1"), face("2"), face("3", label="Sad", split="test")]))
    assert {row.reason for row in rows} == {"label_contradictory"}
    assert {row.detail for row in rows} == {
        "a.jpg: Happy (train) in 1, Happy (train) in 2, Sad (test) in 3"
    }
    assert settled(face("1"), face("2", split="val")) == ["label_contradictory"] * 2
    assert (
        settled(face("1", box=ONE, split=None), face("2", box=ONE, split=None, label="Sad"))
        == ["label_contradictory"] * 2
    )


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
    box=st.sampled_from([None, ONE, OTHER]),
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
        assert len({one for one in given_labels if one[:2] == (row.member, row.box)}) == 1
