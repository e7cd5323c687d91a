import pytest

from stages.config import CLASSES, is_not_a_class
from stages.sources.rows import canonical, split_of


def test_the_order_of_the_classes():
    assert CLASSES == ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("anger", "Angry"),
        ("Happiness", "Happy"),
        ("SADNESS", "Sad"),
        ("suprise", "Surprise"),
        ("surprised", "Surprise"),
        ("neutrality", "Neutral"),
        ("03_fear", "Fear"),
        (" disgust ", "Disgust"),
        ("contempt", None),
        ("0", None),
        ("happysad", None),
    ],
)
def test_names_of_the_wild(name: str, label: str | None):
    assert canonical(name) == label


@pytest.mark.parametrize("name", ["Contempt", "none", "No-Face", "uncertain", "unknown", "NF"])
def test_what_is_not_a_class_is_known_as_such(name: str):
    assert is_not_a_class(name)
    assert canonical(name) is None


def test_incident_D8_a_misspelt_split_is_none():
    assert [split_of(name) for name in ("train", "valid", "Validation", "val", "TEST ")] == [
        "train", "val", "val", "val", "test",
    ]  # fmt: skip
    assert [split_of(name) for name in ("trian", "training", "tst", "")] == [None] * 4
