"""FERPlus: votes become labels, from folders or from two tables whose n-th rows are one picture."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.sources.fer2013 import as_png
from stages.sources.ferplus import VOTE_COLUMNS, winner
from stages.sources.formats import read_source
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import open_tree
from tests.sources.conftest import HAPPY, WHOLE, became, ids_of, in_memory, rows_of, source_of

SAD, NOBODY = "0,0,0,9,1,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,10"
FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")
LISTS = {f"data/{folder}/label.csv": f"{folder}.png,{WHOLE},{HAPPY}\n" for folder in FOLDERS}


def pair(*votes: str) -> dict[str, str]:
    """The tables of some votes `<name>,<ten counts>`; their pixels tell the rows apart."""
    pixels = [" ".join([str(n % 256)] * 48 * 48) for n in range(len(votes))]
    header = f"Usage,Image name,{','.join(VOTE_COLUMNS)}"
    return {
        "fer2013.csv": "\n".join(["emotion,pixels,Usage", *(f"3,{p},Training" for p in pixels)]),
        "fer2013new.csv": "\n".join([header, *(f"Training,{vote}" for vote in votes)]),
    }


def ferplus(files: dict[str, str | bytes], **params: object) -> list[Candidate | Reject]:
    return rows_of(in_memory(files), "ferplus", **params)


def test_label_rule_is_for_train_alone():
    votes = "4,0,0,1,3,2,0,0,0,0"
    files = {f"{folder}/a{n}.png": b"x" for n, folder in enumerate(FOLDERS)}
    files |= {f"{f}/label.csv": f"a{n}.png,{WHOLE},{votes}" for n, f in enumerate(FOLDERS)}
    train, *others = ferplus(files, label_rule="probability")
    assert train.label == "Neutral"
    assert [row.reason for row in others] == ["no_majority"] * 2


@pytest.mark.parametrize("box", ['"(0,0,48,48)"', '"(0.0, 0.0, 48.0, 48.0)"'])
def test_reported_the_whole_picture_is_its_box_however_it_is_written(box):
    (row,) = ferplus({"FER2013Test/a.png": b"x", "FER2013Test/label.csv": f"a.png,{box},{HAPPY}"})
    assert row.label == "Happy"


def test_in_a_pair_a_gap_is_no_name():
    gaps = ("", "NaN", "nan", "NULL", "None")
    files = pair(f"a.png,{HAPPY}", f"b.png,{HAPPY}", *(f"{gap},{HAPPY}" for gap in gaps))
    files["fer2013.csv"] = files["fer2013.csv"].replace(f"{'1 ' * 48}", "x ", 1)
    first, unreadable, *nameless = ferplus(files)
    assert first.member == "fer2013.csv:2 (a.png)"
    assert (unreadable.row, unreadable.reason) == ("fer2013.csv:3", "image_unreadable")
    assert [row.member for row in nameless] == [f"fer2013.csv:{n}" for n in range(4, 9)]


@given(st.binary(min_size=48 * 48, max_size=48 * 48))
def test_a_picture_is_its_values_row_by_row(values: bytes):
    image = cv2.imdecode(
        np.frombuffer(as_png(" ".join(map(str, values))), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert image.shape == (48, 48)
    assert image.tobytes() == values


@pytest.mark.parametrize("wrong", ["256", "-1", "1.0", "x", "²", "٣", "9" * 5000, "", "1 2"])
def test_values_that_are_no_grey_are_no_picture(wrong: str):
    good = ["7"] * (48 * 48 - 1)
    assert as_png(" ".join([*good, "255"])) is not None
    assert as_png(" ".join([*good, wrong])) is None


def test_which_form_is_read_where_both_are():
    """FERPlus comes with lists and no pictures: the pair is read, unless a picture is there."""
    tables = pair(f"a.png,{HAPPY}", f"b.png,{HAPPY}")
    read_as_pair = [(f"fer2013new.csv:{n}", "face") for n in (2, 3)]
    assert became(ferplus(tables | LISTS)) == read_as_pair
    lists = [f"{name}:1" for name in LISTS]
    picture = {"data/FER2013Valid/FER2013Valid.png": b"x"}
    pictured = list(zip(lists, ["image_missing", "face", "image_missing"], strict=True))
    assert became(ferplus(tables | LISTS | picture)) == pictured
    half = {"fer2013new.csv": tables["fer2013new.csv"]}
    assert became(ferplus(half | LISTS)) == [(name, "image_missing") for name in lists]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("", "ends after 1"),
        (f"\nTraining,b.png,{HAPPY}", r"fer2013new.csv:3: .*'Training'"),
        ("\nPublicTest,b.png,1", "expected 12 columns, got 3"),
    ],
)
def test_tables_that_do_not_match_are_an_error(second, message):
    files = pair(f"a.png,{HAPPY}")
    files["fer2013.csv"] += "\n3,x,PublicTest"
    files["fer2013new.csv"] += second
    with pytest.raises(UserError, match=message):
        ferplus(files)


def test_reported_one_name_in_ferplus_and_fer2013_is_one_picture():
    # As in Microsoft's table: after a row without a name the count of names goes on, or does not.
    votes = [f"fer0000000.png,{HAPPY}", f",{NOBODY}", f"fer0000001.png,{SAD}", f",{HAPPY}"]
    plus = {row.id: row for row in ferplus(pair(*votes)) if isinstance(row, Candidate)}
    pixels = {row.id: row.image for row in rows_of(in_memory(pair(*votes)), "fer2013")}
    assert list(plus) == [f"it/row000000{n}" for n in (0, 2, 3)]
    assert all(row.image == pixels[id_] for id_, row in plus.items())
    assert plus["it/row0000002"].member == "fer2013.csv:4 (fer0000001.png)"
    # The name of a generated folder's picture is no row of fer2013.csv: here it is the third.
    folder = {"FER2013Train/fer0000001.png": b"x"}
    (face,) = ferplus(folder | {"FER2013Train/label.csv": f"fer0000001.png,{WHOLE},{HAPPY}"})
    assert face.id not in pixels


def test_reported_a_name_twice_in_the_pair_is_a_reject():
    votes = [f"a.png,{HAPPY}", f"b.png,{HAPPY}", f"A.PNG,{SAD}", f",{SAD}", f",{NOBODY}"]
    rows = ferplus(pair(*votes))
    assert ids_of(rows) == [f"it/row000000{n}" for n in (0, 1, 3)]
    detail = "'A.PNG' stands in fer2013new.csv:2"
    assert rows[2] == Reject("fer2013new.csv:4", "row_repeated", detail)
    # A table's row is no member: nothing may look for it.
    assert (rows[4].reason, rows[4].member) == ("not_a_class", None)


def test_the_names_that_microsofts_table_gives_to_two_rows_cost_no_row():
    votes = [f"fer{n:07d}.png,{HAPPY}" for n in range(6970)]
    votes[5274] = f"fer0006953.png,{HAPPY}"
    votes[6000] = f"fer0000001.png,{HAPPY}"
    files = pair(*votes)
    # Pictures take a while: those of two rows do.
    lines = files["fer2013.csv"].splitlines()
    files["fer2013.csv"] = "\n".join(
        line if n in {0, 5275, 6954} else "3,x,Training" for n, line in enumerate(lines)
    )
    rows = ferplus(files)
    assert ids_of(rows) == ["it/row0005274", "it/row0006953"]
    repeated = [row for row, reason in became(rows) if reason == "row_repeated"]
    assert repeated == ["fer2013new.csv:6002"]


# --- the rules ---

# Worked by hand.     neu hap sur sad ang dis fea con unk NF
RULES = {
    "majority": [
        ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), None),  # 4 of 4+3+2 is no majority
        ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), None),  # exactly half is not more than half
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), None),  # nothing is left
        ((1, 1, 1, 2, 1, 1, 1, 1, 1, 0), "sadness"),  # single votes are noise
        ((0, 0, 0, 0, 0, 0, 0, 0, 6, 4), "unknown"),
    ],
    "probability": [
        ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), "neutral"),  # 4+3 of 9 reach 75 %
        ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), "neutral"),  # a tie goes to the first
        ((3, 3, 2, 2, 0, 0, 0, 0, 0, 0), None),  # the tie at 2 makes four peaks
        ((18, 2, 2, 2, 0, 0, 0, 0, 0, 0), "neutral"),  # exactly 75 %: the tie is not reached
        ((4, 0, 0, 0, 0, 0, 0, 0, 4, 2), None),  # stops at unknown: 4 of 10 kept
        ((6, 0, 0, 0, 0, 0, 0, 0, 4, 0), "neutral"),  # stops at unknown: 6 of 10 kept
        ((2, 0, 0, 0, 0, 0, 0, 0, 8, 0), "unknown"),
        ((3, 2, 0, 0, 0, 0, 0, 0, 5, 0), None),  # unknown comes first, half of the votes
    ],
    "multi_target": [
        ((3, 3, 2, 2, 0, 0, 0, 0, 0, 0), "neutral"),  # 3 of 10 is 30 %
        ((2, 2, 2, 2, 2, 0, 0, 0, 0, 0), None),  # nobody has 30 %
        ((0, 4, 2, 2, 2, 0, 0, 0, 0, 0), None),  # 4 of 10 kept is not more than half
    ],
}


@pytest.mark.parametrize(
    ("rule", "counts", "column"),
    [(rule, *row) for rule, rows in RULES.items() for row in rows],
)
def test_rules_by_hand(rule, counts, column):
    assert winner(counts, rule=rule) == column


@given(st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_a_majority_winner_wins_by_every_rule(counts):
    column = winner(counts, rule="majority")
    if column is None:
        return
    cleaned = np.array([count if count > 1 else 0 for count in counts])
    assert cleaned[VOTE_COLUMNS.index(column)] > cleaned.sum() / 2
    assert winner(counts, rule="multi_target") == column
    assert winner(counts, rule="probability") in {column, None}


# --- the real data -------------------------------------------------------------------------------

FERPLUS_ZIP = os.environ.get("FERPLUS_ZIP", "")


@pytest.mark.skipif(
    not FERPLUS_ZIP, reason="set FERPLUS_ZIP to the generated FERPlus folders (zip)"
)
def test_counts_of_the_generated_folders():
    with open_tree(Path(FERPLUS_ZIP), key="FERPLUS_ZIP") as tree:
        rows = list(read_source(tree, name="ferplus", source=source_of("ferplus")))
    for folder, num_rows, seven_classes, eight_classes in (
        ("FER2013Train", 28_558, 24_925, 25_045),
        ("FER2013Valid", 3_579, 3_175, 3_191),
    ):
        here = [row for row in rows if row.row.startswith(folder)]
        contempt = [row for row in here if getattr(row, "detail", "") == "contempt"]
        assert (len(here), len(ids_of(here))) == (num_rows, seven_classes)
        assert len(ids_of(here)) + len(contempt) == eight_classes
