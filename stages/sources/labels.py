"""Names and numbers that datasets give to the seven classes and to splits."""

from functools import lru_cache
from typing import Literal

from stages.config import CLASSES, letters

Split = Literal["train", "val", "test"]

# FER2013 numbers the classes in this project's order; ExpW does too.
FER2013_CODES = {str(number): name for number, name in enumerate(CLASSES)}

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
SPLITS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@lru_cache(maxsize=1024)
def canonical(name: str) -> str | None:
    """Find the class that a folder or column name means (`01_Happiness`: Happy), or None."""
    return _NAMES.get(letters(name))


def split_of(name: str) -> Split | None:
    """Find the split that a folder's name means, or None."""
    return SPLITS.get(name.strip().lower())
