import numpy as np

from stages.sources import labels, rafdb
from stages.sources.ferplus import VOTE_COLUMNS
from tools.sample.crowd import ANSWERS
from tools.sample.layouts import (
    EXPW_CODES,
    FERPLUS_COLUMNS,
    PLANS,
    RAFDB_CODES,
    add_ferplus_row,
    affectnet_path,
    expw_line,
)
from tools.sample.portrait import Box
from tools.sample.raw import Raw


def test_codes_are_those_that_the_adapters_read():
    assert {str(code): name for name, code in RAFDB_CODES.items()} == rafdb.CODES["rafdb_basic"]
    assert {str(code): name for name, code in EXPW_CODES.items()} == labels.FER2013_CODES
    starts = [column[:3].lower() for column in VOTE_COLUMNS]
    assert starts == ["neu", "hap", "sur", "sad", "ang", "dis", "fea", "con", "unk", "nf"]
    assert [answer[:3].lower() for answer in FERPLUS_COLUMNS] == starts


def test_ferplus_rows_go_on_numbering_in_their_split():
    raw = Raw()
    votes = np.arange(10)  # in the order of ANSWERS
    names = [add_ferplus_row(raw, "Test", data=b"", votes=votes) for _ in range(2)]
    assert names == ["fer0032220.png", "fer0032221.png"]
    counts = [str(ANSWERS.index(column)) for column in FERPLUS_COLUMNS]
    line = raw.lines["ferplus/FER2013Test/label.csv"][0]
    assert line == f'fer0032220.png,"(0, 0, 48, 48)",{",".join(counts)}'
    assert list(raw.files) == [f"ferplus/FER2013Test/{name}" for name in names]


def test_boxes_are_listed_from_the_top():
    line = expw_line("a.jpg", 2, Box(left=1, top=2, right=3, bottom=4), 61.5, label="Sad")
    assert line == "a.jpg 2 2 1 3 4 61.5000 4"


def test_folders_are_named_as_on_kaggle():
    path = affectnet_path("train", "Angry", name="x")
    assert path == "affectnet_full_balanced/train/Anger/x.jpg"


def test_classes_are_unequal_but_all_there():
    for counts in PLANS.values():
        assert len(counts) == 7
        assert min(counts) >= 6
        assert len(set(counts)) > 2
