"""What an adapter says of each row of a dataset: a face to read, or why it is none."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from stages.sources.labels import Split

# Which pixels a box counts: as the file stores them, or turned by its EXIF orientation, as seen.
Pixels = Literal["stored", "turned"]

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
class Box:
    """A face in its photo, px: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int
    _: KW_ONLY
    pixels: Pixels


@dataclass(frozen=True)
class ShareBox:
    """A face in its photo, as shares of the photo's width and height, from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    _: KW_ONLY
    pixels: Pixels


@dataclass(frozen=True)
class Candidate:
    """A labelled face whose picture has not been looked at yet.

    `row` says which raw row it is, as in `Reject`. `member` is the picture's path in the source;
    `box` is None where the picture is the face. Where a table holds the pixels, `image` is the
    encoded picture and `member` the table's row, perhaps with what the dataset calls the picture.
    """

    row: str
    id: str
    member: str
    label: str
    split: Split | None
    photo: str
    votes: tuple[float, ...] | None = None
    box: Box | ShareBox | None = None
    confidence: float | None = None
    image: bytes | None = None

    @property
    def picture(self) -> str | None:
        """The member to look at; None where a table holds the pixels, for its row is no member."""
        return self.member if self.image is None else None


@dataclass(frozen=True)
class Reject:
    """A raw row that did not become a face. `row` says which: a path, or `label.csv:12`.

    `member` is the picture's path in the source, where there is one to look at.
    """

    row: str
    reason: Rule | Fault
    detail: str = ""
    member: str | None = None
