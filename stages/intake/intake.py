"""A raw dataset -> a finished source folder: shards, index.json, rejects and contact sheets.

Every raw row ends as a face in a shard or as a line of rejects.csv.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePosixPath

from stages.config import CLASSES, Standardize
from stages.faces.decode import UnusableImageError, decode
from stages.faces.shards import SCHEMA, Face, ShardWriter, read_index
from stages.faces.sheet import TILE_PX, contact_sheet, draw_box, fit
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
_SHEET_COLUMNS = 12
_EXAMPLES = 3
_WINDOW_BYTES = 256 << 20
_BATCH_ROWS = 64
_BATCHES_EACH = 3  # under way or waiting, for each worker
_FEW_ROWS = 2000  # below, a worker's start takes longer than the work


def write_source(
    folder: Path, tree: RawTree, *, name: str, settings: Standardize, framing: Framing, workers: int
) -> None:
    """Fill a source's folder; the same rows and bytes give the same files, whatever the workers.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    rejects: list[Reject] = []
    refused, sheet = FairDraw[RefusedRow](_SHEET_COLUMNS), FairDraw[bytes](_SHEET_COLUMNS)
    crops: Counter[str] = Counter(none=0, box=0, aligned=0)
    in_turned_photos: Counter[str] = Counter(stored=0, turned=0)
    num_partly_outside = 0
    source = settings.sources[name]
    rows = list(read_source(tree, name=name, source=source))
    # What stands in a face's `raw` before its member.
    raw = "" if (below := PurePosixPath(source.path).as_posix()) == "." else f"{below}/"
    results = _read_pictures(rows, tree, framing=framing, workers=workers)
    with one_opencv_thread(), ShardWriter(folder, shard_mb=settings.shard_mb) as shards:
        for row, result in with_progress(zip(rows, results, strict=True), name=name):
            if isinstance(row, Candidate) and row.box is not None and result.is_of_turned_photo:
                in_turned_photos[row.box.pixels] += 1
            if isinstance(result, RefusedRow):
                rejects.append(reject := result.reject)
                if reject.member is not None:
                    key = hashlib.sha256(reject.row.encode()).hexdigest()
                    refused.add(reject.reason, key=key, item=result)
                continue
            assert isinstance(row, Candidate)
            values = vars(row) | vars(result) | {"raw": raw + row.member}
            shards.add(Face(**{column: values[column] for column in SCHEMA.names}))
            crops[result.crop] += 1
            num_partly_outside += result.box_inside is False
            for kind in [row.label, TURNED] if result.is_of_turned_photo else [row.label]:
                sheet.add(kind, key=result.sha256, item=result.image)
        # The most frequent reason first.
        counts = Counter(sorted(reject.reason for reject in rejects)).most_common()
        _write_rejects(folder / REJECTS, rejects, name=name)
        write_bytes(folder / REJECTS_SHEET, _draw_refused(refused, tree, counts=dict(counts)))
        write_bytes(folder / SHEET, _draw_faces(sheet))
        shards.note(
            {
                "rows": len(rows),
                "rejects": dict(counts),
                "crops": dict(crops),
                # Those over the edge of their photo, and those, rejects included, whose photo EXIF
                # turns, by the pixels that they count.
                "boxes_partly_outside": num_partly_outside,
                "boxes_in_turned_photos": dict(in_turned_photos),
                "face_detector": None if framing.detector is None else framing.detector.sha256,
            }
        )


def read_rejects(folder: Path) -> list[dict[str, str]]:
    """Read the lines of a source's rejects.csv: source, row, reason, detail."""
    with (folder / REJECTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check_source(folder: Path, *, name: str, max_reject_share: float, is_kept: bool = True) -> None:
    """Refuse a source without faces, or with more broken rows than the params allow.

    A folder that is not kept is not named.

    Raises:
        UserError: with counts for each reason and its first rows.
    """
    index = read_index(folder)
    counts: dict[str, int] = index["rejects"]
    if not index["rows"]:
        raise UserError(f"source {name}: expected faces, got none: its tables hold no rows")
    shown = {reason: count for reason, count in counts.items() if reason in FAULTS}
    share = sum(shown.values()) / index["rows"]
    if not index["faces"]:
        problem, shown = "expected faces, got none", counts
    elif share > max_reject_share:
        allowed = f"standardize.max_reject_share allows {max_reject_share:.1%}"
        problem = f"{share:.1%} of its rows are broken, {allowed}; faces: {index['faces']}"
    else:
        return
    examples: dict[str, list[str]] = {reason: [] for reason in shown}
    for row in read_rejects(folder):
        if len(lines := examples.get(row["reason"], [])) < _EXAMPLES:
            lines.append(f"\n  {row['row']}: {row['reason']}: {row['detail']}")
    where = f"look at {REJECTS} and {REJECTS_SHEET} in {folder}; " if is_kept else ""
    raise UserError(
        f"source {name}: {problem}; rejects: {counts}; {where}the first of each reason:"
        + "".join(chain(*examples.values()))
    )


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


def _write_rejects(path: Path, rejects: Sequence[Reject], *, name: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "row", "reason", "detail"))
    writer.writerows((name, inert(r.row), r.reason, inert(r.detail)) for r in rejects)
    write_text(path, text.getvalue())


def _draw_refused(refused: FairDraw[RefusedRow], tree: RawTree, *, counts: dict[str, int]) -> bytes:
    """Draw a row for each reason: pictures that can be read, with their boxes."""
    rows = {}
    for reason, count in counts.items():
        tiles = []
        for row in refused.drawn(reason):
            with suppress(UnusableImageError, UnreadableMemberError):
                image = decode(tree.read(row.reject.member or ""))
                tiles.append(fit(draw_box(image, row.box) if row.box else image, TILE_PX))
        rows[f"{reason}  {count:,}" + ("" if tiles else "\nno picture to show")] = tiles
    return contact_sheet(rows or {"no rejects": []})


def _draw_faces(sheet: FairDraw[bytes]) -> bytes:
    """Draw a row for each class, and a row for faces whose photo EXIF turns if there are any."""
    rows = {}
    for kind in [*CLASSES, TURNED] if sheet.counts[TURNED] else CLASSES:
        tiles = [fit(decode(image), TILE_PX) for image in sheet.drawn(kind)]
        rows[f"{kind}  {sheet.counts[kind]:,}"] = tiles
    return contact_sheet(rows)
