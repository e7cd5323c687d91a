"""A raw dataset -> a finished source folder: shards, index.json, rejects and contact sheets.

Every raw row ends as a face in a shard or as a line of rejects.csv.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from stages.config import CLASSES, Source
from stages.faces.decode import decode
from stages.faces.shards import Face, ShardWriter, read_index
from stages.faces.sheet import contact_sheet, fit
from stages.intake.picture import Framing, Picture
from stages.intake.rejects import REJECTS, Refused, RejectWriter, read_rejects
from stages.intake.rejects import SHEET as REJECTS_SHEET
from stages.intake.rows import PlacedRow, RowReader, batches
from stages.runtime.errors import UserError
from stages.runtime.files import write_bytes
from stages.runtime.seed import FairDraw
from stages.runtime.workers import map_in_order, one_opencv_thread, with_progress
from stages.sources.face import FAULTS, Candidate, Reject
from stages.sources.formats import read_source
from stages.sources.tree import RawTree

SHEET = "sheet.png"
TURNED = "turned by EXIF"
# What a finished folder holds besides its shards and index.
COMPANIONS = (REJECTS, REJECTS_SHEET, SHEET)
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
    rejects, sheet, tally = RejectWriter(), FairDraw[bytes](_SHEET_COLUMNS), _Tally()
    rows = list(read_source(tree, name=name, source=source))
    raw = _prefix(source.path)
    results = _pictures(rows, tree, framing=framing, workers=workers)
    with one_opencv_thread(), ShardWriter(folder, shard_mb=shard_mb) as shards:
        for row, result in with_progress(zip(rows, results, strict=True), name=name):
            if result.is_of_turned_photo:
                tally.add_turned(row)
            if isinstance(result, Refused):
                rejects.add(result)
                continue
            assert isinstance(row, Candidate)
            shards.add(_face(row, result, raw=raw))
            tally.add(result)
            for kind in [row.label, TURNED] if result.is_of_turned_photo else [row.label]:
                sheet.add(kind, key=result.sha256, item=result.image)
        rejects.write(folder, tree, name=name)
        write_bytes(folder / SHEET, _draw(sheet))
        shards.note(_facts(tally, rejects=rejects.counts(), framing=framing))


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
    """The first rows of each of these reasons, a line each."""
    rows: dict[str, list[str]] = {reason: [] for reason in reasons}
    for row in read_rejects(folder):
        if len(shown := rows.get(row["reason"], [])) < _EXAMPLES:
            shown.append(f"  {row['row']}: {row['reason']}: {row['detail']}")
    return "\n".join(chain.from_iterable(rows.values()))


class _Tally:
    """Counts what no column of a face says, and how faces were cut out."""

    def __init__(self) -> None:
        self.faces = 0
        self.boxes_partly_outside = 0
        self.crops: Counter[str] = Counter(none=0, box=0, aligned=0)
        self.boxes_in_turned_photos: Counter[str] = Counter(stored=0, turned=0)

    def add(self, picture: Picture) -> None:
        """Count a face."""
        self.faces += 1
        self.crops[picture.crop] += 1
        self.boxes_partly_outside += picture.box_inside is False

    def add_turned(self, row: Candidate | Reject) -> None:
        """Count the box of a photo that EXIF turns, by the pixels that it counts."""
        assert isinstance(row, Candidate)
        assert row.box is not None
        self.boxes_in_turned_photos[row.box.pixels] += 1


def _pictures(
    rows: Sequence[Candidate | Reject], tree: RawTree, *, framing: Framing, workers: int
) -> Iterator[Picture | Refused]:
    """What becomes of each row, in their order, with bounded memory."""
    if len(rows) < _FEW_ROWS:
        workers = 0
    num_batches = max(1, workers * _BATCHES_EACH)
    # So many that their faces are no more than `_WINDOW_BYTES`, one for each batch aside.
    most_rows = _WINDOW_BYTES // (3 * framing.max_side_px**2 * num_batches)
    placed = (_placed(row, tree) for row in rows)
    work = RowReader(tree.reader, framing)
    found = map_in_order(
        work,
        batches(placed, at_least=max(1, min(_BATCH_ROWS, most_rows))),
        workers=workers,
        window=num_batches,
    )
    return chain.from_iterable(found)


def _placed(row: Candidate | Reject, tree: RawTree) -> PlacedRow:
    if isinstance(row, Reject) or row.image is not None:
        return PlacedRow(row, None)
    return PlacedRow(row, tree.place(row.member))


def _prefix(path: str) -> str:
    """What stands in a face's `raw` before its member."""
    folder = PurePosixPath(path).as_posix()
    return "" if folder == "." else f"{folder}/"


def _face(row: Candidate, picture: Picture, *, raw: str) -> Face:
    return Face(
        id=row.id,
        image=picture.image,
        width=picture.width,
        height=picture.height,
        native_px=picture.native_px,
        label=row.label,
        votes=row.votes,
        split=row.split,
        photo=row.photo,
        confidence=row.confidence,
        sha256=picture.sha256,
        dhash=picture.dhash,
        thumbnail=picture.thumbnail,
        crop=picture.crop,
        raw=raw + row.member,
    )


def _draw(sheet: FairDraw[bytes]) -> bytes:
    """A row for each class, and one for faces whose photo EXIF turns where there are any."""
    rows = {}
    for kind in [*CLASSES, TURNED] if sheet.counts[TURNED] else CLASSES:
        tiles = [fit(decode(image), _TILE_PX) for image in sheet.drawn(kind)]
        rows[f"{kind}  {sheet.counts[kind]:,}"] = tiles
    return contact_sheet(rows, tile_px=_TILE_PX)


def _facts(tally: _Tally, *, rejects: dict[str, int], framing: Framing) -> dict[str, Any]:
    return {
        "rows": tally.faces + sum(rejects.values()),
        "rejects": rejects,
        "crops": dict(tally.crops),
        "boxes_partly_outside": tally.boxes_partly_outside,
        "boxes_in_turned_photos": dict(tally.boxes_in_turned_photos),
        "face_detector": None if framing.detector is None else framing.detector.sha256,
    }
