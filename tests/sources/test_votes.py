import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.sources.votes import VOTE_COLUMNS, class_votes, winner

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


def test_class_votes_are_raw_and_in_canonical_order():
    assert class_votes((1, 2, 3, 4, 5, 6, 7, 8, 9, 10)) == (5, 6, 7, 2, 4, 3, 1)
