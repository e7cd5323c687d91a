import csv
import io
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.config import FerplusSource
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.formats import read_source
from stages.sources.tree import open_tree

SOURCE = FerplusSource(format="ferplus", path="ferplus")
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


# --- the csv pair --------------------------------------------------------------------------------


def pixel_text(value: int) -> str:
    return " ".join([str(value)] * 48 * 48)


def pair(pixel_rows: list[tuple[str, str]], vote_rows: list[str], *, spaced: bool = False):
    text = io.StringIO()
    writer = csv.writer(text)
    if spaced:
        writer.writerow(["emotion", " Usage", " pixels"])
        writer.writerows(["3", usage, pixels] for usage, pixels in pixel_rows)
    else:
        writer.writerow(["emotion", "pixels", "Usage"])
        writer.writerows(["3", pixels, usage] for usage, pixels in pixel_rows)
    header = (
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    )
    votes = "\n".join([header, *vote_rows])
    return {
        "icml_face_data.csv" if spaced else "fer2013.csv": text.getvalue(),
        "fer2013new.csv": votes,
    }


@pytest.mark.parametrize("spaced", [False, True])
def test_csv_pair(make_tree, spaced):
    tree = make_tree(
        pair(
            [("Training", pixel_text(7)), ("PublicTest", pixel_text(8)), ("PrivateTest", "1 2")],
            [
                f"Training,fer0000000.png,{HAPPY}",
                f"PublicTest,,{HAPPY}",
                f"PrivateTest,fer2.png,{HAPPY}",
            ],
            spaced=spaced,
        )
    )
    rows = rows_of(tree)
    assert [row.id for row in rows[:2]] == ["ferplus/fer0000000", "ferplus/fer0000001"]
    assert [row.split for row in rows[:2]] == ["train", "val"]
    image = cv2.imdecode(np.frombuffer(rows[1].image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image, np.full((48, 48), 8))
    member = "icml_face_data.csv:4" if spaced else "fer2013.csv:4"
    assert (rows[2].row, rows[2].reason) == (member, "image_unreadable")


LISTS = {
    f"data/{folder}/label.csv": f"fer{n:07d}.png,{WHOLE},{HAPPY}\n"
    for n, folder in enumerate(["FER2013Train", "FER2013Valid", "FER2013Test"])
}


def test_the_pair_beside_folders_without_pictures_as_ferplus_comes(make_tree):
    rows = [f"Training,fer0000000.png,{HAPPY}", f"PrivateTest,fer0000001.png,{HAPPY}"]
    pixels = [("Training", pixel_text(1)), ("PrivateTest", pixel_text(2))]
    found = rows_of(make_tree(pair(pixels, rows) | LISTS))
    assert [(row.id, row.row, row.split) for row in found] == [
        ("ferplus/fer0000000", "fer2013new.csv:2", "train"),
        ("ferplus/fer0000001", "fer2013new.csv:3", "test"),
    ]


def test_a_picture_in_any_folder_makes_the_folders_the_rows(make_tree):
    files = pair([("Training", pixel_text(1))], [f"Training,fer0000000.png,{HAPPY}"])
    found = rows_of(make_tree(files | LISTS | {"data/FER2013Valid/fer0000001.png": b"x"}))
    assert [(row.row, getattr(row, "reason", "face")) for row in found] == [
        ("data/FER2013Train/label.csv:1", "image_missing"),
        ("data/FER2013Valid/label.csv:1", "face"),
        ("data/FER2013Test/label.csv:1", "image_missing"),
    ]


def test_folders_without_pictures_or_pair_miss_their_pictures(make_tree):
    half = pair([("Training", pixel_text(1))], [f"Training,fer0000000.png,{HAPPY}"])
    del half["fer2013.csv"]
    found = rows_of(make_tree(half | LISTS))
    assert [row.reason for row in found] == ["image_missing"] * 3


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([f"Training,a.png,{HAPPY}"], "ends after 1"),
        ([f"Training,a.png,{HAPPY}", f"Training,b.png,{HAPPY}"], r"fer2013new.csv:3: .*'Training'"),
        ([f"Training,a.png,{HAPPY}", "PublicTest,b.png,1"], "expected 12 columns, got 3"),
    ],
)
def test_tables_that_do_not_match_are_an_error(make_tree, votes, message):
    pixels = [("Training", pixel_text(1)), ("PublicTest", pixel_text(2))]
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(pair(pixels, votes)))


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
