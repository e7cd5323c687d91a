import os
from collections import Counter
from pathlib import Path

import pytest
from shipped import shipped

from stages.config import FerplusSource
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.formats import read_source
from stages.sources.tree import open_tree

SOURCE = shipped(FerplusSource, format="ferplus", path="ferplus")
WHOLE = '"(0, 0, 48, 48)"'
HAPPY = "1,8,0,0,0,0,0,0,1,0"


def rows_of(tree, **changes):
    source = SOURCE.model_copy(update=changes)
    return list(read_source(tree, name="ferplus", source=source))


def rejects_of(rows):
    return [(row.row, row.reason) for row in rows if isinstance(row, Reject)]


def test_generated_folders(make_tree):
    tree = make_tree(
        {
            "data/FER2013Train/fer0000001.png": b"1",
            "data/FER2013Train/fer0000002.PNG": b"2",
            "data/FER2013Train/label.csv": (
                f"\ufefffer0000001.png,{WHOLE},{HAPPY}\r\n\r\n fer0000002.png ,{WHOLE}, {HAPPY}\r\n"
            ),
            "data/FER2013Valid/fer0000009.png": b"9",
            "data/FER2013Valid/label.csv": f"fer0000009.png,{WHOLE},{HAPPY}\n",
        }
    )
    rows = rows_of(tree)
    assert [(row.id, row.split, row.label) for row in rows] == [
        ("ferplus/fer0000001", "train", "Happy"),
        ("ferplus/fer0000002", "train", "Happy"),
        ("ferplus/fer0000009", "val", "Happy"),
    ]
    assert rows[1] == Candidate(
        row="data/FER2013Train/label.csv:3",
        id="ferplus/fer0000002",
        member="data/FER2013Train/fer0000002.PNG",
        label="Happy",
        split="train",
        photo="ferplus/fer0000002",
        votes=(0, 0, 0, 8, 0, 0, 1),
    )


def test_every_row_that_is_no_face_says_why(make_tree):
    lines = [
        f"a.png,{WHOLE},{HAPPY}",
        f"a.png,{WHOLE},{HAPPY}",
        f"gone.png,{WHOLE},{HAPPY}",
        f"b.png,{WHOLE},0,0,0,0,0,0,0,9,1,0",
        f"c.png,{WHOLE},5,5,0,0,0,0,0,0,0,0",
        f"d.png,{WHOLE},5,5",
        f"e.png,{WHOLE},5,5,0,x,0,0,0,0,0,0",
        f'f.png,"(10, 10, 20, 20)",{HAPPY}',
        f"g.png,{WHOLE},0,0,0,0,0,0,0,0,2,8",
    ]
    files = {f"FER2013Test/{stem}.png": b"x" for stem in "abcdefgh"}
    tree = make_tree({**files, "FER2013Test/label.csv": "\n".join(lines)})
    rows = rows_of(tree)
    table = "FER2013Test/label.csv"
    assert rejects_of(rows) == [
        (f"{table}:2", "row_repeated"),
        (f"{table}:3", "image_missing"),
        (f"{table}:4", "not_a_class"),
        (f"{table}:5", "no_majority"),
        (f"{table}:6", "row_malformed"),
        (f"{table}:7", "row_malformed"),
        (f"{table}:8", "row_malformed"),
        (f"{table}:9", "not_a_class"),
        ("FER2013Test/h.png", "label_missing"),
    ]
    assert len(rows) == len(lines) + 1


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


def test_pictures_without_a_table_are_an_error(make_tree):
    tree = make_tree({"FER2013Train/a.png": b"x"})
    with pytest.raises(UserError, match=r"no FER2013Train/label\.csv"):
        rows_of(tree)


def test_neither_form_is_an_error(make_tree):
    tree = make_tree({"fer2013new.csv": "", "notes.txt": ""})
    with pytest.raises(
        UserError, match=r"source ferplus: expected the folders .* found \['fer2013new"
    ):
        rows_of(tree)


@pytest.mark.parametrize("box", ['"(0,0,48,48)"', '"(0.0, 0.0, 48.0, 48.0)"'])
def test_reported_the_whole_picture_is_its_box_however_it_is_written(make_tree, box):
    tree = make_tree({"FER2013Test/a.png": b"x", "FER2013Test/label.csv": f"a.png,{box},{HAPPY}"})
    assert [row.label for row in rows_of(tree)] == ["Happy"]


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
