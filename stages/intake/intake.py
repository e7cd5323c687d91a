"""A raw dataset -> a finished source folder: shards, index.json, rejects and contact sheets.

Every raw row ends as a face in a shard or as a line of rejects.csv.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

from stages.config import Source
from stages.intake.parallel import map_in_order, one_opencv_thread
from stages.intake.rejects import REJECTS, Refused, RejectWriter, read_rejects
from stages.intake.rejects import SHEET as REJECTS_SHEET
from stages.preprocessing.crop import BoxPx, BoxShare
from stages.preprocessing.decode import decode
from stages.preprocessing.errors import UnusableImageError
from stages.preprocessing.picture import Framing, Picture, read_picture
from stages.preprocessing.sheet import contact_sheet, fit
from stages.records.faces import Face, ShardWriter, read_index
from stages.runtime.draws import FairDraw
from stages.runtime.errors import UserError
from stages.runtime.files import write_bytes
from stages.runtime.progress import with_progress
from stages.sources.face import FAULTS, Box, Candidate, Fault, Reject, ShareBox
from stages.sources.formats import read_source
from stages.sources.labels import CLASSES
from stages.sources.tree import RawTree, UnreadableMemberError

SHEET = "sheet.png"
# What a finished folder holds besides its shards and index.
COMPANIONS = (REJECTS, REJECTS_SHEET, SHEET)
_SHEET_COLUMNS, _TILE_PX = 12, 96
_EXAMPLES = 3
_WINDOW_ROWS = 256
_WINDOW_BYTES = 256 << 20


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
    rows = read_source(tree, name=name, source=source)
    work = partial(_look_at, tree=tree, raw=PurePosixPath(source.path), framing=framing)
    window = _window(framing.max_side_px, workers=workers)
    with one_opencv_thread(), ShardWriter(folder, shard_mb=shard_mb) as shards:
        results = map_in_order(work, rows, workers=workers, window=window)
        for result in with_progress(results, name=name):
            if isinstance(result, Refused):
                rejects.add(result)
            else:
                shards.add(result.face)
                tally.add(result)
                sheet.add(result.face.label, key=result.face.sha256, item=result.face.image)
        rejects.write(folder, tree, name=name)
        write_bytes(folder / SHEET, _draw(sheet))
        shards.note(_facts(tally, rejects=rejects.counts(), framing=framing))


def check_source(folder: Path, *, name: str, max_reject_share: float) -> None:
    """Refuse a source without faces, or with more broken rows than the params allow.

    Raises:
        UserError: with counts for each reason and the first examples of faults.
    """
    index = read_index(folder)
    counts: dict[str, int] = index["rejects"]
    where = f"look at {REJECTS} and {REJECTS_SHEET} in {folder}"
    if not index["faces"]:
        raise UserError(f"source {name}: expected faces, got none; rejects: {counts}; {where}")
    num_faults = sum(count for reason, count in counts.items() if reason in FAULTS)
    share = num_faults / index["rows"]
    if share > max_reject_share:
        faults = [row for row in read_rejects(folder) if row["reason"] in FAULTS]
        examples = [f"  {r['row']}: {r['reason']}: {r['detail']}" for r in faults[:_EXAMPLES]]
        allowed = f"standardize.max_reject_share allows {max_reject_share:.1%}"
        raise UserError(
            f"source {name}: {share:.1%} of its rows are broken, {allowed}; "
            f"faces: {index['faces']}, rejects: {counts}; {where}; the first:\n"
            + "\n".join(examples)
        )


@dataclass(frozen=True)
class _Taken:
    """A row that became a face; `box_inside` as in `Picture`."""

    face: Face
    box_inside: bool | None


class _Tally:
    """Counts what no column of a face says, and how faces were cut out."""

    def __init__(self) -> None:
        self.faces = 0
        self.boxes_partly_outside = 0
        self.crops: Counter[str] = Counter(none=0, box=0, aligned=0)

    def add(self, taken: _Taken) -> None:
        """Count a face."""
        self.faces += 1
        self.crops[taken.face.crop] += 1
        self.boxes_partly_outside += taken.box_inside is False


def _window(max_side_px: int, *, workers: int) -> int:
    """So many rows that their faces are no more than `_WINDOW_BYTES`, one for each worker aside."""
    face_bytes = 3 * max_side_px**2
    return max(workers, min(_WINDOW_ROWS, _WINDOW_BYTES // face_bytes))


def _look_at(
    row: Candidate | Reject, *, tree: RawTree, raw: PurePosixPath, framing: Framing
) -> _Taken | Refused:
    if isinstance(row, Reject):
        return Refused(row)
    box = _box(row.box)
    try:
        data = tree.read(row.member) if row.image is None else row.image
        picture = read_picture(data, box=box, framing=framing)
    except UnreadableMemberError as error:
        return Refused(Reject(row.row, "image_unreadable", str(error)))
    except UnusableImageError as error:
        detail = f"{row.member}: {error.detail}"
        member = row.member if row.image is None else None
        reject = Reject(row.row, cast(Fault, error.reason), detail, member)
        return Refused(reject, image=row.image, box=box)
    return _Taken(_face(row, picture, raw=raw), picture.box_inside)


def _face(row: Candidate, picture: Picture, *, raw: PurePosixPath) -> Face:
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
        raw=(raw / row.member).as_posix(),
    )


def _box(box: Box | ShareBox | None) -> BoxPx | BoxShare | None:
    match box:
        case None:
            return None
        case Box():
            return BoxPx(box.left, box.top, box.right, box.bottom)
        case ShareBox():
            return BoxShare(box.left, box.top, box.right, box.bottom)


def _draw(sheet: FairDraw[bytes]) -> bytes:
    """A row for each class."""
    rows = {}
    for label in CLASSES:
        tiles = [fit(decode(image), _TILE_PX) for image in sheet.drawn(label)]
        rows[f"{label}  {sheet.counts[label]:,}"] = tiles
    return contact_sheet(rows, tile_px=_TILE_PX)


def _facts(tally: _Tally, *, rejects: dict[str, int], framing: Framing) -> dict[str, Any]:
    return {
        "rows": tally.faces + sum(rejects.values()),
        "rejects": rejects,
        "crops": dict(tally.crops),
        "boxes_partly_outside": tally.boxes_partly_outside,
        "face_detector": None if framing.detector is None else framing.detector.sha256,
    }
