"""Rows that name one face, or one id, again, or what cannot be named: settled over a dataset.

In: an adapter's rows. Out: as many rows in the same order, some candidates turned into rejects.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from stages.sources.face import Box, Candidate, Reject, ShareBox
from stages.sources.tables import quoted

_MOST_NAMED = 5
# No line of the manifest may hold one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_Face = tuple[str, Box | ShareBox | None]


def settle_repeats(rows: Iterable[Candidate | Reject]) -> Iterator[Candidate | Reject]:
    """Yield every row in its place; no two candidates share an id, or a picture and box.

    A name with a control character is none. Of rows that agree on a face the first stays. Where
    label or split differ, all of them go: nobody knows which one is right, and a later row can say
    so, hence all rows are held at once.
    """
    held = [_nameable(row) for row in rows]
    faces: defaultdict[_Face, list[Candidate]] = defaultdict(list)
    for row in held:
        if isinstance(row, Candidate):
            faces[row.member, row.box].append(row)
    contradictions = {face: _contradiction(same) for face, same in faces.items()}
    first_of_id: dict[str, Candidate] = {}
    for row in held:
        if isinstance(row, Reject):
            yield row
            continue
        face = (row.member, row.box)
        first = faces[face][0]
        if contradiction := contradictions[face]:
            yield Reject(row.row, "label_contradictory", contradiction, row.picture)
        elif row is not first:
            yield _repeated(row, first)
        elif (owner := first_of_id.setdefault(row.id, row)) is not row:
            detail = f"{owner.row} has the same id, {row.id}"
            yield Reject(row.row, "row_repeated", detail, row.picture)
        else:
            yield row


def _nameable(row: Candidate | Reject) -> Candidate | Reject:
    if isinstance(row, Reject) or not _CONTROL.search(row.id + row.photo):
        return row
    detail = f"expected a name without control characters, got {quoted(row.id)}"
    return Reject(row.row, "row_malformed", detail, row.picture)


def _repeated(row: Candidate, first: Candidate) -> Reject:
    if row.box is not None:
        return Reject(row.row, "box_repeated", f"the face of {first.row}", row.picture)
    return Reject(row.row, "row_repeated", f"{row.member} stands in {first.row}", row.picture)


def _contradiction(same_face: Sequence[Candidate]) -> str | None:
    """What rows of one face say where they do not agree on label and split."""
    said = {(row.label, row.split) for row in same_face}
    return _in_words(same_face) if len(said) > 1 else None


def _in_words(rows: Sequence[Candidate]) -> str:
    said = [
        f"{row.label}{f' ({row.split})' if row.split else ''} in {row.row}"
        for row in rows[:_MOST_NAMED]
    ]
    more = f", and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return f"{rows[0].member}: {', '.join(said)}{more}"
