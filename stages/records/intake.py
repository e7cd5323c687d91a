"""A raw dataset -> a finished source folder: shards, index.json, rejects.csv and sheet.png.

Every raw row ends as a face in a shard or as a line of rejects.csv.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import cast

from stages.config import Source
from stages.preprocessing.decode import decode
from stages.preprocessing.errors import UnusableImageError
from stages.preprocessing.picture import read_picture
from stages.preprocessing.sheet import contact_sheet
from stages.records.faces import Face, ShardWriter, read_index
from stages.runtime.errors import UserError
from stages.runtime.files import write_bytes, write_text
from stages.sources.face import FAULTS, Box, Candidate, Fault, Reject
from stages.sources.formats import read_source
from stages.sources.labels import CLASSES
from stages.sources.tree import RawTree, UnreadableMemberError

REJECTS, SHEET = "rejects.csv", "sheet.png"
_COLUMNS = ("source", "row", "reason", "detail")
_SHEET_COLUMNS = 12
_EXAMPLES = 3


def write_source(
    folder: Path, tree: RawTree, *, name: str, source: Source, crop_margin: float, shard_mb: int
) -> None:
    """Fill a source's folder; the same rows and bytes give the same files.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    rejects: list[Reject] = []
    sheet = _Sheet()
    with ShardWriter(folder, shard_mb=shard_mb) as shards:
        for row in _faces(tree, name=name, source=source, crop_margin=crop_margin):
            if isinstance(row, Reject):
                rejects.append(row)
            else:
                shards.add(row)
                sheet.add(row)
    write_text(folder / REJECTS, _as_csv(rejects, name=name))
    write_bytes(folder / SHEET, sheet.draw())


def count_rejects(folder: Path) -> dict[str, int]:
    """How often each reason stands in a source's rejects.csv, the most frequent first."""
    return dict(Counter(row["reason"] for row in _read_rejects(folder)).most_common())


def check_source(folder: Path, *, name: str, max_reject_share: float) -> None:
    """Refuse a source without faces, or with more broken rows than the params allow.

    Raises:
        UserError: with counts for each reason and the first examples of faults.
    """
    faces = read_index(folder)["faces"]
    counts = count_rejects(folder)
    if not faces:
        raise UserError(f"source {name}: expected faces, got none; rejects: {counts}")
    num_faults = sum(count for reason, count in counts.items() if reason in FAULTS)
    share = num_faults / (faces + sum(counts.values()))
    if share > max_reject_share:
        faults = [row for row in _read_rejects(folder) if row["reason"] in FAULTS]
        examples = [f"  {r['row']}: {r['reason']}: {r['detail']}" for r in faults[:_EXAMPLES]]
        allowed = f"standardize.max_reject_share allows {max_reject_share:.1%}"
        raise UserError(
            f"source {name}: {share:.1%} of its rows are broken, {allowed}; "
            f"faces: {faces}, rejects: {counts}; the first:\n" + "\n".join(examples)
        )


def _faces(
    tree: RawTree, *, name: str, source: Source, crop_margin: float
) -> Iterator[Face | Reject]:
    row_of_id: dict[str, str] = {}
    for row in read_source(tree, name=name, source=source):
        if isinstance(row, Reject):
            yield row
        elif row.id in row_of_id:
            detail = f"{row_of_id[row.id]} has the same id, {row.id}"
            yield Reject(row.row, "row_repeated", detail)
        else:
            row_of_id[row.id] = row.row
            yield _face(row, tree, source=source, crop_margin=crop_margin)


def _face(row: Candidate, tree: RawTree, *, source: Source, crop_margin: float) -> Face | Reject:
    try:
        data = tree.read(row.member) if row.image is None else row.image
        picture = read_picture(data, box=_corners(row.box), margin=crop_margin)
    except UnreadableMemberError as error:
        return Reject(row.row, "image_unreadable", str(error))
    except UnusableImageError as error:
        return Reject(row.row, cast(Fault, error.reason), f"{row.member}: {error.detail}")
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
        raw=(PurePosixPath(source.path) / row.member).as_posix(),
    )


def _corners(box: Box | None) -> tuple[int, int, int, int] | None:
    return None if box is None else (box.left, box.top, box.right, box.bottom)


class _Sheet:
    """The faces of each class with the smallest pixel hashes: a fair draw that never changes."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._drawn: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    def add(self, face: Face) -> None:
        """Count a face and keep it if it is among the drawn."""
        self._numbers[face.label] += 1
        drawn = self._drawn[face.label]
        drawn[face.sha256] = face.image
        if len(drawn) > _SHEET_COLUMNS:
            del drawn[max(drawn)]

    def draw(self) -> bytes:
        """The sheet as a PNG, a row for each class."""
        return contact_sheet(
            {
                f"{label}  {self._numbers[label]:,}": [
                    decode(self._drawn[label][key]) for key in sorted(self._drawn[label])
                ]
                for label in CLASSES
            }
        )


def _as_csv(rejects: list[Reject], *, name: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((name, reject.row, reject.reason, reject.detail) for reject in rejects)
    return text.getvalue()


def _read_rejects(folder: Path) -> list[dict[str, str]]:
    with (folder / REJECTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
