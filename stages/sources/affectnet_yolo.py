"""AffectNet in YOLO form: `data.yaml` and, for each picture, a text file with a line per face."""

import io
import math
from collections.abc import Iterator

import yaml

from stages.config import AffectnetYoloSource, is_not_a_class
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Pixels, Reject, ShareBox
from stages.sources.labels import Split, canonical
from stages.sources.members import UnreadableMemberError
from stages.sources.numbers import code, number, whole
from stages.sources.pairs import Layout, Pair, read_pairs
from stages.sources.tables import quoted
from stages.sources.tree import RawTree

_NAMES = "data.yaml"
_SPLITS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
# Annotation tools put the list of classes among the labels.
_LAYOUT = Layout(_SPLITS, labels="labels", ending=".txt", no_labels=frozenset({"classes.txt"}))
# No rule says so, but who trains on such files turns a photo before it looks at boxes: Ultralytics.
_PIXELS: Pixels = "turned"
_COLUMNS = "class cx cy w h"


def read(tree: RawTree, *, name: str, source: AffectnetYoloSource) -> Iterator[Candidate | Reject]:
    """Yield every line of the label files, and every picture or label file that has none.

    Raises:
        UserError: if data.yaml is missing or names no classes, or there are no pairs.
    """
    assert source.format == "affectnet_yolo"
    table = tree.find(_NAMES)
    if table is None:
        expected = f"{_NAMES} and {{train,valid,test}}/{{images,labels}}"
        raise UserError(f"source {name}: expected {expected}; found {list(tree.members[:5])}")
    names = _class_names(tree, table)
    for pair in read_pairs(tree, layout=_LAYOUT, name=name):
        if isinstance(pair, Reject):
            yield pair
        else:
            yield from _read_pair(tree, pair, name=name, names=names)


def _class_names(tree: RawTree, table: str) -> dict[str, str]:
    """Class names of data.yaml by their number."""
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
    if wrong := [name for name in names.values() if not isinstance(name, str)]:
        raise UserError(f"{table}: names: expected class names, got {quoted(str(wrong[0]))}")
    numbered = {code(key): name for key, name in names.items()}
    if len(numbered) != len(names) or any(whole(key) is None for key in numbered):
        raise UserError(
            f"{table}: names: expected each class by its own number, got {quoted(str(list(names)))}"
        )
    return numbered


def _read_pair(
    tree: RawTree, pair: Pair, *, name: str, names: dict[str, str]
) -> Iterator[Candidate | Reject]:
    if pair.labels is None:
        assert pair.picture is not None
        yield Reject(pair.picture, "label_missing", "no label file", pair.picture)
        return
    lines = _lines(tree, pair.labels)
    if lines is None:
        yield Reject(pair.labels, "row_malformed", "expected text in UTF-8", pair.picture)
    elif pair.picture is None:
        for row in lines or [pair.labels]:
            yield Reject(row, "image_missing", pair.name)
    elif not lines:
        yield Reject(pair.picture, "label_missing", "empty label file", pair.picture)
    else:
        for number, (row, text) in enumerate(lines.items()):
            key = f"{name}/{pair.split}/{pair.name}#{number}"
            yield _face(
                row, text.split(), picture=pair.picture, split=pair.split, key=key, names=names
            )


def _face(
    row: str, fields: list[str], *, picture: str, split: Split, key: str, names: dict[str, str]
) -> Candidate | Reject:
    box = _box(fields[1:])
    if box is None:
        detail = f"expected {_COLUMNS}, got {quoted(' '.join(fields))}"
        return Reject(row, "row_malformed", detail, picture)
    class_name = names.get(code(fields[0]))
    if class_name is None:
        detail = f"expected a class number of {_NAMES}, got {quoted(fields[0])}"
        return Reject(row, "label_invalid", detail, picture)
    label = canonical(class_name)
    if label is not None:
        photo, _, _ = key.rpartition("#")
        return Candidate(row, key, picture, label, split, photo=photo, box=box)
    if is_not_a_class(class_name):
        return Reject(row, "not_a_class", class_name, picture)
    detail = f"expected a class, {_NAMES} calls {fields[0]} {quoted(class_name)}"
    return Reject(row, "label_invalid", detail, picture)


def _lines(tree: RawTree, member: str) -> dict[str, str] | None:
    """The lines that are not blank, by `<member>:<line>`; None if the file is no text."""
    try:
        text = tree.read(member).decode("utf-8-sig")
    except (UnreadableMemberError, UnicodeDecodeError):
        return None
    lines = enumerate(io.StringIO(text, newline=""), start=1)
    return {f"{member}:{number}": line for number, line in lines if line.strip()}


def _box(fields: list[str]) -> ShareBox | None:
    """Centre, width and height as edges; None if they are not four finite numbers."""
    shares = [share for field in fields if (share := number(field)) is not None]
    if not len(fields) == len(shares) == 4:
        return None
    x, y, width, height = shares
    edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return ShareBox(*edges, pixels=_PIXELS) if all(map(math.isfinite, edges)) else None
