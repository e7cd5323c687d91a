"""Raw rows that did not become faces: `rejects.csv`, and `rejects.png` to look at them."""

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path

from stages.faces.decode import Image, UnusableImageError, decode
from stages.faces.sheet import contact_sheet, draw_box, fit
from stages.intake.pictures import RefusedRow
from stages.runtime.files import write_bytes, write_text
from stages.runtime.tables import FairDraw, inert
from stages.sources.members import UnreadableMemberError
from stages.sources.rows import Reject
from stages.sources.tree import RawTree

REJECTS, SHEET = "rejects.csv", "rejects.png"
_COLUMNS = ("source", "row", "reason", "detail")
_SHEET_COLUMNS, _TILE_PX = 12, 96


class RejectWriter:
    """Collects the rejects of a source and writes them, in the order in which they came."""

    def __init__(self) -> None:
        self._rejects: list[Reject] = []
        self._draw: FairDraw[RefusedRow] = FairDraw(_SHEET_COLUMNS)

    def add(self, refused: RefusedRow) -> None:
        """Note a reject."""
        reject = refused.reject
        self._rejects.append(reject)
        if refused.image is not None or reject.member is not None:
            key = hashlib.sha256(reject.row.encode()).hexdigest()
            self._draw.add(reject.reason, key=key, item=refused)

    def counts(self) -> dict[str, int]:
        """Count the rejects of each reason, the most frequent first."""
        counts = Counter(reject.reason for reject in self._rejects)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def write(self, folder: Path, tree: RawTree, *, name: str) -> None:
        """Write `rejects.csv` and `rejects.png`, even if there is no reject."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((name, inert(r.row), r.reason, inert(r.detail)) for r in self._rejects)
        write_text(folder / REJECTS, text.getvalue())

        rows = {}
        for reason, count in self.counts().items():
            tiles = [_tile(refused, tree) for refused in self._draw.drawn(reason)]
            shown = [tile for tile in tiles if tile is not None]
            rows[f"{reason}  {count:,}" + ("" if shown else "\nno picture to show")] = shown
        sheet = contact_sheet(rows or {"no rejects": []}, tile_px=_TILE_PX)
        write_bytes(folder / SHEET, sheet)


def read_rejects(folder: Path) -> list[dict[str, str]]:
    """Read the lines of a source's rejects.csv: source, row, reason, detail."""
    with (folder / REJECTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _tile(refused: RefusedRow, tree: RawTree) -> Image | None:
    """Draw the box on the picture, as small as the sheet shows it; None if it cannot be read."""
    try:
        if (encoded := refused.image) is None:
            assert refused.reject.member is not None
            encoded = tree.read(refused.reject.member)
        image = decode(encoded)
    except (UnusableImageError, UnreadableMemberError):
        return None
    return fit(image if refused.box is None else draw_box(image, refused.box), _TILE_PX)
