"""AffectNet in YOLO form: `data.yaml` and, for each picture, a text file with a line per face."""

import io
import math
from collections.abc import Iterator

import yaml

from stages.config import AffectnetYoloSource, is_not_a_class
from stages.faces.decode import Box, Pixels
from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.pairs import LabelPair, read_pairs
from stages.sources.rows import SPLITS, Candidate, Reject, canonical
from stages.sources.tables import code, number, quoted, whole
from stages.sources.tree import RawTree

_NAMES = "data.yaml"
# No rule says so, but programs that train on such files turn a photo before they look at boxes:
# Ultralytics.
_PIXELS: Pixels = "turned"
_COLUMNS = "class cx cy w h"


def read(tree: RawTree, *, name: str, source: AffectnetYoloSource) -> Iterator[Candidate | Reject]:
    """Yield every line of the label files, and every picture or label file that has none."""
    assert source.format == "affectnet_yolo"
    table = tree.find(_NAMES)
    if table is None:
        expected = f"expected {_NAMES} and {{train,valid,test}}/{{images,labels}}"
        raise tree.layout_error(name, expected)
    class_names = _class_names(tree, table)
    for pair in read_pairs(tree, name=name, splits=SPLITS, folder="labels", ending=".txt"):
        if isinstance(pair, Reject):
            yield pair
        else:
            yield from _read_pair(tree, pair, name=name, class_names=class_names)


def _class_names(tree: RawTree, table: str) -> dict[str, str]:
    """Read the class names of data.yaml by their number."""
    try:
        # The base loader makes nothing but texts, lists and mappings; `no` stays a text.
        data = yaml.load(tree.read(table).decode("utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506
    except (UnreadableMemberError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{table}: not valid YAML: {' '.join(str(error).split())}") from None
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not names or not isinstance(names, dict):
        raise UserError(f"{table}: expected names, a list or a mapping of the classes")
    numbered = {code(key): name for key, name in names.items() if isinstance(name, str)}
    if len(numbered) != len(names) or any(whole(key) is None for key in numbered):
        raise UserError(
            f"{table}: names: expected the name of each class by its own number, "
            f"got {quoted(str(names))}"
        )
    return numbered


def _read_pair(
    tree: RawTree, pair: LabelPair, *, name: str, class_names: dict[str, str]
) -> Iterator[Candidate | Reject]:
    try:
        text = tree.read(pair.labels).decode("utf-8-sig")
    except (UnreadableMemberError, UnicodeDecodeError):
        yield Reject(pair.labels, "row_malformed", "expected text in UTF-8", pair.picture)
        return
    numbered = enumerate(io.StringIO(text, newline=""), start=1)
    lines = {f"{pair.labels}:{place}": line.split() for place, line in numbered if line.strip()}
    if pair.picture is None:
        for row in lines or [pair.labels]:
            yield Reject(row, "image_missing", pair.name)
    elif not lines:
        yield Reject(pair.picture, "label_missing", "empty label file", pair.picture)
    else:
        photo = f"{name}/{pair.split}/{pair.name}"
        for face, (row, fields) in enumerate(lines.items()):
            box = _box(fields[1:])
            class_name = class_names.get(code(fields[0]))
            if box is None:
                detail = f"expected {_COLUMNS}, got {quoted(' '.join(fields))}"
                yield Reject(row, "row_malformed", detail, pair.picture)
            elif class_name is None:
                detail = f"expected a class number of {_NAMES}, got {quoted(fields[0])}"
                yield Reject(row, "label_invalid", detail, pair.picture)
            elif (label := canonical(class_name)) is not None:
                key, split = f"{photo}#{face}", pair.split
                yield Candidate(row, key, pair.picture, label, split, photo=photo, box=box)
            elif is_not_a_class(class_name):
                yield Reject(row, "not_a_class", class_name, pair.picture)
            else:
                detail = f"expected a class, {_NAMES} calls {fields[0]} {quoted(class_name)}"
                yield Reject(row, "label_invalid", detail, pair.picture)


def _box(fields: list[str]) -> Box | None:
    """Turn centre, width and height into edges; None if they are not four finite numbers."""
    shares = [share for field in fields if (share := number(field)) is not None]
    if not len(fields) == len(shares) == 4:
        return None
    x, y, width, height = shares
    edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return Box(*edges, unit="share", pixels=_PIXELS) if all(map(math.isfinite, edges)) else None
