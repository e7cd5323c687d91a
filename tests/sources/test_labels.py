import pytest

from stages.config import is_not_a_class
from stages.sources.rows import canonical, split_of


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("anger", "Angry"), ("Happiness", "Happy"), ("SADNESS", "Sad"), (" disgust ", "Disgust")),
        *(("suprise", "Surprise"), ("surprised", "Surprise"), ("neutrality", "Neutral")),
        *(("03_fear", "Fear"), ("0", None), ("happysad", None)),
        *((name, None) for name in ("Contempt", "none", "No-Face", "uncertain", "unknown", "NF")),
    ],
)
def test_names_of_the_wild(name: str, label: str | None):
    assert canonical(name) == label
    assert is_not_a_class(name) == (label is None and name not in {"0", "happysad"})


def test_incident_D8_a_misspelt_split_is_none():
    names = ["train", "valid", "Validation", "val", "TEST ", "trian", "training", "tst", ""]
    splits = ["train", "val", "val", "val", "test", None, None, None, None]
    assert [split_of(name) for name in names] == splits
