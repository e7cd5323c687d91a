"""Raw rows as adapters yield them: a face to read, or the reason why there is none.

Also the names and numbers that datasets give to the seven classes and to splits.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from stages.config import CLASSES, letters
from stages.faces.decode import Box

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
# A row that is left out by rule: the dataset says so itself.
Rule = Literal["not_a_class", "no_majority", "box_repeated", "box_missing", "photo_unlisted"]
# A row that is left out because something is broken; max_reject_share counts these.
Fault = Literal[
    "image_missing",
    "image_unreadable",
    "image_too_large",
    "image_animated",
    "label_missing",
    "label_invalid",
    "label_contradictory",
    "row_malformed",
    "row_repeated",
    "box_outside",
    "box_empty",
]
FAULTS: frozenset[str] = frozenset(get_args(Fault))


@dataclass(frozen=True)
class Candidate:
    """A labelled face whose picture has not been looked at yet.

    `row` names the raw row, as in `Reject`. `member` is the picture's path in the source; `box` is
    None where the picture is the face. Where a table holds the pixels, `image` is the encoded
    picture and `member` the table's row, perhaps with the dataset's name for the picture.
    """

    row: str
    id: str
    member: str
    label: str
    split: Split | None
    photo: str
    votes: tuple[float, ...] | None = None
    box: Box | None = None
    confidence: float | None = None
    image: bytes | None = None

    @property
    def picture(self) -> str | None:
        """The member to look at; None where a table holds the pixels: its row is no member."""
        return self.member if self.image is None else None


@dataclass(frozen=True)
class Reject:
    """A raw row that did not become a face. `row` names it: a path, or `label.csv:12`.

    `member` is the picture's path in the source, if there is one to look at.
    """

    row: str
    reason: Rule | Fault
    detail: str = ""
    member: str | None = None


@lru_cache(maxsize=1024)
def canonical(name: str) -> str | None:
    """Find the class that a folder or column name means (`01_Happiness`: Happy), or None."""
    return _NAMES.get(letters(name))


def split_of(name: str) -> Split | None:
    """Find the split that a folder's name means, or None."""
    return SPLITS.get(name.strip().lower())
