"""Raw rows that did not become faces: `rejects.csv`, and `rejects.png` to look at them."""

import csv
import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import Image, decode
from stages.faces.errors import UnusableImageError
from stages.faces.sheet import contact_sheet, draw_box, fit
from stages.intake.crop import in_pixels
from stages.runtime.files import inert, write_bytes, write_text
from stages.runtime.seed import FairDraw
from stages.sources.face import Reject
from stages.sources.members import UnreadableMemberError
from stages.sources.tree import RawTree

REJECTS, SHEET = "rejects.csv", "rejects.png"
_COLUMNS = ("source", "row", "reason", "detail")
_SHEET_COLUMNS, _TILE_PX = 12, 96


@dataclass(frozen=True)
class Refused:
    """A reject with what there is to see of it besides its member: encoded picture and box.

    The box is of the picture as seen. `is_of_turned_photo` is as in `Picture`.
    """

    reject: Reject
    image: bytes | None = None
    box: BoxPx | BoxShare | None = None
    is_of_turned_photo: bool = False


class RejectWriter:
    """Collects the rejects of a source and writes them, in the order in which they came."""

    def __init__(self) -> None:
        self._rejects: list[Reject] = []
        self._draw: FairDraw[Refused] = FairDraw(_SHEET_COLUMNS)

    def add(self, refused: Refused) -> None:
        """Note a reject."""
        reject = refused.reject
        self._rejects.append(reject)
        if refused.image is not None or reject.member is not None:
            key = hashlib.sha256(reject.row.encode()).hexdigest()
            self._draw.add(reject.reason, key=key, item=refused)

    def counts(self) -> dict[str, int]:
        """How often each reason stands, the most frequent first."""
        counts = Counter(reject.reason for reject in self._rejects)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def write(self, folder: Path, tree: RawTree, *, name: str) -> None:
        """Write `rejects.csv` and `rejects.png`, both also where there is no reject."""
        write_text(folder / REJECTS, self._as_csv(name))
        write_bytes(folder / SHEET, self._sheet(tree))

    def _as_csv(self, name: str) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((name, inert(r.row), r.reason, inert(r.detail)) for r in self._rejects)
        return text.getvalue()

    def _sheet(self, tree: RawTree) -> bytes:
        rows = {}
        for reason, count in self.counts().items():
            tiles = [_tile(refused, tree) for refused in self._draw.drawn(reason)]
            shown = [tile for tile in tiles if tile is not None]
            rows[f"{reason}  {count:,}" + ("" if shown else "\nno picture to show")] = shown
        return contact_sheet(rows or {"no rejects": []}, tile_px=_TILE_PX)


def read_rejects(folder: Path) -> list[dict[str, str]]:
    """The lines of a source's rejects.csv: source, row, reason, detail."""
    with (folder / REJECTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _tile(refused: Refused, tree: RawTree) -> Image | None:
    """The picture as small as the sheet shows it, its box drawn; None if there is none to see."""
    try:
        image = decode(_encoded(refused, tree))
    except (UnusableImageError, UnreadableMemberError):
        return None
    box = _in_pixels(refused.box, image)
    return fit(image if box is None else draw_box(image, box), _TILE_PX)


def _encoded(refused: Refused, tree: RawTree) -> bytes:
    if refused.image is not None:
        return refused.image
    assert refused.reject.member is not None
    return tree.read(refused.reject.member)


def _in_pixels(box: BoxPx | BoxShare | None, image: Image) -> BoxPx | None:
    """The box on its photo; None where there is none, or none that can be drawn."""
    if not isinstance(box, BoxShare):
        return box
    try:
        return in_pixels(box, width=image.shape[1], height=image.shape[0])
    except UnusableImageError:
        return None
