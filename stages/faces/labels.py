"""The seven classes, in the order that holds everywhere, and the names seen for them."""

from functools import lru_cache
from typing import Literal

from stages.config import letters

Split = Literal["train", "val", "test"]

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
# ExpW has the numbers of FER2013 too.
FER2013_CODES = {
    "0": "Angry",
    "1": "Disgust",
    "2": "Fear",
    "3": "Happy",
    "4": "Sad",
    "5": "Surprise",
    "6": "Neutral",
}

_NAMES = {name.lower(): name for name in CLASSES} | {
    "anger": "Angry",
    "disgusted": "Disgust",
    "fearful": "Fear",
    "happiness": "Happy",
    "sadness": "Sad",
    "suprise": "Surprise",
    "surprised": "Surprise",
    "neutrality": "Neutral",
}

_SPLITS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@lru_cache(maxsize=1024)
def canonical(name: str) -> str | None:
    """The class meant by a folder or column name (`01_Happiness` is Happy); None if none is."""
    return _NAMES.get(letters(name))


def split_of(name: str) -> Split | None:
    """The split that a folder's name means; None if it is no split's name."""
    return _SPLITS.get(name.strip().lower())
