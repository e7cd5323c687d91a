import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped

from stages.config import FerplusSource
from stages.sources.ferplus import VOTE_COLUMNS, winner
from stages.sources.formats import read_source
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import open_tree

SOURCE = shipped(FerplusSource, format="ferplus", path="ferplus")
WHOLE = '"(0, 0, 48, 48)"'
HAPPY = "1,8,0,0,0,0,0,0,1,0"


def rows_of(tree, **changes):
    source = SOURCE.model_copy(update=changes)
    return list(read_source(tree, name="ferplus", source=source))


def rejects_of(rows):
    return [(row.row, row.reason) for row in rows if isinstance(row, Reject)]


def test_label_rule_is_for_train_alone(make_tree):
    no_majority = "4,0,0,1,3,2,0,0,0,0"
    tree = make_tree(
        {
            f"{folder}/{name}": content
            for folder in ("FER2013Train", "FER2013Valid")
            for name, content in {
                f"{folder}.png": b"x",
                "label.csv": f"{folder}.png,{WHOLE},{no_majority}",
            }.items()
        }
    )
    train, val = rows_of(tree, label_rule="probability")
    assert train.label == "Neutral"
    assert val.reason == "no_majority"


@pytest.mark.parametrize("box", ['"(0,0,48,48)"', '"(0.0, 0.0, 48.0, 48.0)"'])
def test_reported_the_whole_picture_is_its_box_however_it_is_written(make_tree, box):
    tree = make_tree({"FER2013Test/a.png": b"x", "FER2013Test/label.csv": f"a.png,{box},{HAPPY}"})
    assert [row.label for row in rows_of(tree)] == ["Happy"]


# --- the rules ---

# Worked by hand.     neu hap sur sad ang dis fea con unk NF
MAJORITY = [
    ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), None),  # 4 of 4+3+2 is no majority
    ((6, 0, 1, 1, 0, 0, 0, 0, 2, 0), "neutral"),  # 6 of 6+2
    ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), None),  # exactly half is not more than half
    ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), None),  # nothing is left
    ((1, 1, 1, 2, 1, 1, 1, 1, 1, 0), "sadness"),  # single votes are noise
    ((0, 0, 0, 0, 2, 0, 0, 8, 0, 0), "contempt"),
    ((0, 0, 0, 0, 0, 0, 0, 0, 6, 4), "unknown"),
    ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), "NF"),
]
PROBABILITY = [
    ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), "neutral"),  # 4+3 of 9 reach 75 %
    ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), "neutral"),  # a tie goes to the first
    ((3, 3, 2, 2, 0, 0, 0, 0, 0, 0), None),  # the tie at 2 makes four peaks
    ((2, 2, 2, 2, 2, 0, 0, 0, 0, 0), None),  # five peaks
    ((18, 2, 2, 2, 0, 0, 0, 0, 0, 0), "neutral"),  # exactly 75 %: the tie is not reached
    ((4, 0, 0, 0, 0, 0, 0, 0, 4, 2), None),  # stops at unknown: 4 of 10 kept
    ((6, 0, 0, 0, 0, 0, 0, 0, 4, 0), "neutral"),  # stops at unknown: 6 of 10 kept
    ((2, 0, 0, 0, 0, 0, 0, 0, 8, 0), "unknown"),
    ((3, 2, 0, 0, 0, 0, 0, 0, 5, 0), None),  # unknown comes first, half of the votes
]
MULTI_TARGET = [
    ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), "neutral"),  # 4 and 3 of 9
    ((3, 3, 2, 2, 0, 0, 0, 0, 0, 0), "neutral"),  # 3 of 10 is 30 %
    ((2, 2, 2, 2, 2, 0, 0, 0, 0, 0), None),  # nobody has 30 %
    ((5, 2, 3, 0, 0, 0, 0, 0, 0, 0), "neutral"),
    ((0, 4, 2, 2, 2, 0, 0, 0, 0, 0), None),  # 4 of 10 kept is not more than half
]


@pytest.mark.parametrize(
    ("rule", "counts", "column"),
    [("majority", *row) for row in MAJORITY]
    + [("probability", *row) for row in PROBABILITY]
    + [("multi_target", *row) for row in MULTI_TARGET],
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
        rows = rows_of(tree)
    kept = Counter(row.split for row in rows if isinstance(row, Candidate))
    contempt = Counter(
        row.row.split("/")[0]
        for row in rows
        if isinstance(row, Reject) and row.detail == "contempt"
    )
    assert kept["train"] == 24_925
    assert kept["val"] == 3_175
    assert kept["train"] + contempt["FER2013Train"] == 25_045
    assert kept["val"] + contempt["FER2013Valid"] == 3_191
    rejected = Counter(row.row.split("/")[0] for row in rows if isinstance(row, Reject))
    assert kept["train"] + rejected["FER2013Train"] == 28_558
    assert kept["val"] + rejected["FER2013Valid"] == 3_579
