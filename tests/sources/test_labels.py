import pytest

from stages.config import is_not_a_class
from stages.sources.rows import canonical, split_of

NAMES = {
    "Angry": ["anger"], "Happy": ["Happiness"], "Sad": ["SADNESS"], "Disgust": [" disgust "],
    "Surprise": ["suprise", "surprised"], "Neutral": ["neutrality"], "Fear": ["03_fear"],
}  # fmt: skip


@pytest.mark.parametrize("label", NAMES)
def test_names_of_the_wild(label: str):
    assert {canonical(name) for name in NAMES[label]} == {label}


def test_what_is_not_a_class_is_known_as_such():
    names = ["Contempt", "none", "No-Face", "uncertain", "unknown", "NF"]
    assert all(is_not_a_class(name) and canonical(name) is None for name in names)
    assert canonical("0") is canonical("happysad") is None


def test_incident_D8_a_misspelt_split_is_none():
    names = ["train", "valid", "Validation", "val", "TEST ", "trian", "training", "tst", ""]
    splits = ["train", "val", "val", "val", "test", None, None, None, None]
    assert [split_of(name) for name in names] == splits
