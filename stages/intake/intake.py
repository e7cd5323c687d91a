"""A raw dataset -> a finished source folder: shards, index.json, rejects and contact sheets.

Every raw row ends as a face in a shard or as a line of rejects.csv.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

from stages.config import CLASSES, Source
from stages.faces.decode import Image, UnusableImageError, decode
from stages.faces.shards import SCHEMA, Face, ShardWriter, read_index
from stages.faces.sheet import contact_sheet, draw_box, fit
from stages.intake.pictures import Framing, RefusedRow, RowReader, StoredPicture, batches
from stages.runtime.errors import UserError
from stages.runtime.files import inert, write_bytes, write_text
from stages.runtime.seed import FairDraw
from stages.runtime.workers import map_in_order, one_opencv_thread, with_progress
from stages.sources.formats import read_source
from stages.sources.members import UnreadableMemberError
from stages.sources.rows import FAULTS, Candidate, Reject
from stages.sources.tree import RawTree

SHEET, REJECTS, REJECTS_SHEET = "sheet.png", "rejects.csv", "rejects.png"
TURNED = "turned by EXIF"
# What a finished folder holds besides its shards and index.
COMPANIONS = (REJECTS, REJECTS_SHEET, SHEET)
_REJECT_COLUMNS = ("source", "row", "reason", "detail")
_SHEET_COLUMNS, _TILE_PX = 12, 96
_EXAMPLES = 3
_WINDOW_BYTES = 256 << 20
_BATCH_ROWS = 64
# Batches under way or waiting, for each worker.
_BATCHES_EACH = 3
# Below, a worker's start takes longer than the work.
_FEW_ROWS = 2000


def write_source(
    folder: Path,
    tree: RawTree,
    *,
    name: str,
    source: Source,
    framing: Framing,
    shard_mb: int,
    workers: int,
) -> None:
    """Fill a source's folder; the same rows and bytes give the same files, whatever the workers.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    rejects, sheet = RejectWriter(), FairDraw[bytes](_SHEET_COLUMNS)
    crops: Counter[str] = Counter(none=0, box=0, aligned=0)
    in_turned_photos: Counter[str] = Counter(stored=0, turned=0)
    num_partly_outside = 0
    rows = list(read_source(tree, name=name, source=source))
    # What stands in a face's `raw` before its member.
    raw = "" if (below := PurePosixPath(source.path).as_posix()) == "." else f"{below}/"
    results = _read_pictures(rows, tree, framing=framing, workers=workers)
    with one_opencv_thread(), ShardWriter(folder, shard_mb=shard_mb) as shards:
        for row, result in with_progress(zip(rows, results, strict=True), name=name):
            if result.is_of_turned_photo:
                assert isinstance(row, Candidate)
                assert row.box is not None
                in_turned_photos[row.box.pixels] += 1
            if isinstance(result, RefusedRow):
                rejects.add(result)
                continue
            assert isinstance(row, Candidate)
            values = vars(row) | vars(result) | {"raw": raw + row.member}
            shards.add(Face(**{column: values[column] for column in SCHEMA.names}))
            crops[result.crop] += 1
            num_partly_outside += result.box_inside is False
            for kind in [row.label, TURNED] if result.is_of_turned_photo else [row.label]:
                sheet.add(kind, key=result.sha256, item=result.image)
        rejects.write(folder, tree, name=name)
        write_bytes(folder / SHEET, _draw(sheet))
        shards.note(
            {
                "rows": len(rows),
                "rejects": rejects.counts(),
                "crops": dict(crops),
                "boxes_partly_outside": num_partly_outside,
                "boxes_in_turned_photos": dict(in_turned_photos),
                "face_detector": None if framing.detector is None else framing.detector.sha256,
            }
        )


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
        writer.writerow(_REJECT_COLUMNS)
        writer.writerows((name, inert(r.row), r.reason, inert(r.detail)) for r in self._rejects)
        write_text(folder / REJECTS, text.getvalue())

        rows = {}
        for reason, count in self.counts().items():
            tiles = [_tile(refused, tree) for refused in self._draw.drawn(reason)]
            shown = [tile for tile in tiles if tile is not None]
            rows[f"{reason}  {count:,}" + ("" if shown else "\nno picture to show")] = shown
        sheet = contact_sheet(rows or {"no rejects": []}, tile_px=_TILE_PX)
        write_bytes(folder / REJECTS_SHEET, sheet)


def read_rejects(folder: Path) -> list[dict[str, str]]:
    """Read the lines of a source's rejects.csv: source, row, reason, detail."""
    with (folder / REJECTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check_source(folder: Path, *, name: str, max_reject_share: float) -> None:
    """Refuse a source without faces, or with more broken rows than the params allow.

    Raises:
        UserError: with counts for each reason and its first rows.
    """
    index = read_index(folder)
    counts: dict[str, int] = index["rejects"]
    where = f"look at {REJECTS} and {REJECTS_SHEET} in {folder}"
    if not index["rows"]:
        raise UserError(f"source {name}: expected faces, got none: its tables hold no rows")
    if not index["faces"]:
        raise UserError(
            f"source {name}: expected faces, got none; rejects: {counts}; {where}; the first of "
            f"each reason:\n{_examples(folder, counts)}"
        )
    num_faults = sum(count for reason, count in counts.items() if reason in FAULTS)
    share = num_faults / index["rows"]
    if share > max_reject_share:
        faults = [reason for reason in counts if reason in FAULTS]
        allowed = f"standardize.max_reject_share allows {max_reject_share:.1%}"
        raise UserError(
            f"source {name}: {share:.1%} of its rows are broken, {allowed}; "
            f"faces: {index['faces']}, rejects: {counts}; {where}; the first of "
            f"each reason:\n{_examples(folder, faults)}"
        )


def _examples(folder: Path, reasons: Iterable[str]) -> str:
    """List the first rows of each of these reasons, a line each."""
    rows: dict[str, list[str]] = {reason: [] for reason in reasons}
    for row in read_rejects(folder):
        if len(shown := rows.get(row["reason"], [])) < _EXAMPLES:
            shown.append(f"  {row['row']}: {row['reason']}: {row['detail']}")
    return "\n".join(chain.from_iterable(rows.values()))


def _read_pictures(
    rows: Sequence[Candidate | Reject], tree: RawTree, *, framing: Framing, workers: int
) -> Iterator[StoredPicture | RefusedRow]:
    """Read the picture of each row, in their order, with bounded memory."""
    if len(rows) < _FEW_ROWS:
        workers = 0
    num_batches = max(1, workers * _BATCHES_EACH)
    # So few that their faces take at most `_WINDOW_BYTES`, a batch for each worker aside.
    max_rows = _WINDOW_BYTES // (3 * framing.max_side_px**2 * num_batches)
    placed = (
        (row, tree.place(row.member) if isinstance(row, Candidate) and row.image is None else None)
        for row in rows
    )
    results = map_in_order(
        RowReader(tree.reader, framing),
        batches(placed, at_least=max(1, min(_BATCH_ROWS, max_rows))),
        workers=workers,
        window=num_batches,
    )
    return chain.from_iterable(results)


def _draw(sheet: FairDraw[bytes]) -> bytes:
    """Draw a row for each class, and a row for faces whose photo EXIF turns if there are any."""
    rows = {}
    for kind in [*CLASSES, TURNED] if sheet.counts[TURNED] else CLASSES:
        tiles = [fit(decode(image), _TILE_PX) for image in sheet.drawn(kind)]
        rows[f"{kind}  {sheet.counts[kind]:,}"] = tiles
    return contact_sheet(rows, tile_px=_TILE_PX)


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
