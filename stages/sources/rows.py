"""Raw rows as adapters yield them: a face to read, or the reason why there is none."""

from dataclasses import dataclass
from typing import Literal, get_args

from stages.faces.decode import Box
from stages.sources.labels import Split

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
