"""A source of params.yaml -> its raw rows, settled: no id twice, no face twice."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from stages.config import Source
from stages.faces.decode import Box
from stages.sources import affectnet, affectnet_yolo, expw, fer2013, ferplus, folder7, rafdb, rafml
from stages.sources.rows import Candidate, Fault, Reject, Rule, split_of
from stages.sources.tables import quoted
from stages.sources.tree import RawTree

ADAPTERS: dict[str, Callable[..., Iterator[Candidate | Reject]]] = {
    "ferplus": ferplus.read,
    "fer2013": fer2013.read,
    "rafdb_basic": rafdb.read,
    "rafdb_compound_mapped": rafdb.read,
    "rafml_argmax": rafml.read,
    "affectnet": affectnet.read,
    "affectnet_yolo": affectnet_yolo.read,
    "folder7": folder7.read,
    "expw": expw.read,
}
_MAX_NAMED = 5
# No line of the manifest may hold such a character.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Roboflow writes versions of x.jpg, altered at random, as x_jpg.rf.<hash>.jpg, a hash each.
_VERSION = re.compile(r"\.rf\.[0-9A-Za-z]+(\.[A-Za-z]{3,4})?$")


def read_source(tree: RawTree, *, name: str, source: Source) -> Iterator[Candidate | Reject]:
    """Yield every raw row of a source, as a candidate or a reject, in an order that never changes.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    return settle_repeats(ADAPTERS[source.format](tree, name=name, source=source))


def settle_repeats(rows: Iterable[Candidate | Reject]) -> Iterator[Candidate | Reject]:
    """Yield every row in its place; no two candidates share an id, or a picture and box.

    Versions of one photo, as an annotation tool names them, are one photo. A name with a control
    character is malformed. If rows agree on a face, the first stays. Where
    label or split differ, all of them go: nobody knows which is right, and a later row can
    contradict an earlier row, hence all rows are held at once.
    """
    held = [_named(row) for row in rows]
    faces: defaultdict[tuple[str, Box | None], list[Candidate]] = defaultdict(list)
    for row in held:
        if isinstance(row, Candidate):
            faces[row.member, row.box].append(row)
    contradictions = {face: _contradiction(same) for face, same in faces.items()}
    first_of_id: dict[str, Candidate] = {}
    for row in held:
        if isinstance(row, Reject):
            yield row
            continue
        first = faces[row.member, row.box][0]
        reason: Rule | Fault = "row_repeated"
        if detail := contradictions[row.member, row.box]:
            reason = "label_contradictory"
        elif row is not first and row.box is not None:
            reason, detail = "box_repeated", f"the face of {first.row}"
        elif row is not first:
            detail = f"{row.member} stands in {first.row}"
        elif (owner := first_of_id.setdefault(row.id, row)) is not row:
            detail = f"{owner.row} has the same id, {row.id}"
        yield Reject(row.row, reason, detail, row.picture) if detail else row


def _named(row: Candidate | Reject) -> Candidate | Reject:
    """Refuse odd names; name the photo that a picture is a version of, in any split's folder."""
    if isinstance(row, Reject):
        return row
    if _CONTROL.search(row.id + row.photo):
        detail = f"expected a name without control characters, got {quoted(row.id)}"
        return Reject(row.row, "row_malformed", detail, row.picture)
    if not _VERSION.search(row.photo):
        return row
    name, *folders, version = row.photo.split("/")
    if folders and split_of(folders[0]):
        folders = folders[1:]
    return replace(row, photo="/".join([name, *folders, _VERSION.sub("", version)]))


def _contradiction(same_face: Sequence[Candidate]) -> str | None:
    """Say in words how rows of one face differ in label or split; None if they agree."""
    if len({(row.label, row.split) for row in same_face}) == 1:
        return None
    words = [
        f"{row.label}{f' ({row.split})' if row.split else ''} in {row.row}"
        for row in same_face[:_MAX_NAMED]
    ]
    more = f", and {len(same_face) - _MAX_NAMED} more" if len(same_face) > _MAX_NAMED else ""
    return f"{same_face[0].member}: {', '.join(words)}{more}"
