"""Pictures with a label file each: `<split>/images/a.jpg` and `<split>/labels/a.txt`."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from posixpath import basename
from typing import NamedTuple

from stages.runtime.errors import UserError
from stages.sources.pictures import PICTURE_SUFFIXES, suffix
from stages.sources.rows import Reject, Split
from stages.sources.tree import RawTree

_IMAGES = "images"
# Annotation tools put the list of classes among the labels.
_NO_LABELS = "classes.txt"
_Key = tuple[Split, str]


class LabelPair(NamedTuple):
    """A label file and its picture, which may be missing.

    `name` is the path that they share below their folders, without what their names end in.
    """

    split: Split
    name: str
    picture: str | None
    labels: str


def read_pairs(
    tree: RawTree, *, name: str, splits: Mapping[str, Split], folder: str, ending: str
) -> Iterator[LabelPair | Reject]:
    """Yield every picture and label file once, in pairs by their names.

    Label files lie in `folder` and end in `ending`, both in lower case, as the names of the splits.
    A name is spelt exactly so, else letter case aside where that leaves no choice. Both
    `<split>/images` and `images/<split>` are read, below extra folders too. Of two files of one
    name the first stays; the others are rejects, as is a picture without a label file.

    Raises:
        UserError: if there are none, or some beside which no folder names a split.
    """
    expected = f"expected {{{','.join(splits)}}}/{{{_IMAGES},{folder}}}"
    pictures: dict[_Key, str] = {}
    labels: dict[_Key, str] = {}
    for member in tree.members:
        kind, split, below = _place(member, splits=splits, folder=folder)
        is_picture = kind == _IMAGES and suffix(below) in PICTURE_SUFFIXES
        is_list = basename(below).lower() == _NO_LABELS
        if not is_picture and (kind != folder or is_list or not below.lower().endswith(ending)):
            continue
        if split is None:
            raise UserError(f"source {name}: {member}: {expected}")
        files = pictures if is_picture else labels
        stem = below[: -len(suffix(below) if is_picture else ending)]
        first = files.setdefault((split, stem), member)
        if first != member:
            detail = f"has one name with {first}"
            yield Reject(member, "row_repeated", detail, member if is_picture else None)
    if not pictures and not labels:
        raise tree.layout_error(name, expected)
    # Labels and pictures left over that are each other's only match, letter case aside.
    left_pictures = _by_lower_case(pictures.keys() - labels.keys())
    for folded, label_keys in _by_lower_case(labels.keys() - pictures.keys()).items():
        if len(label_keys) == len(picture_keys := left_pictures[folded]) == 1:
            labels[picture_keys[0]] = labels.pop(label_keys[0])
    for key in sorted(pictures.keys() | labels.keys()):
        if key in labels:
            yield LabelPair(*key, pictures.get(key), labels[key])
        else:
            yield Reject(pictures[key], "label_missing", f"no {ending} file", pictures[key])


def _place(
    member: str, *, splits: Mapping[str, Split], folder: str
) -> tuple[str | None, Split | None, str]:
    """Find `images` or the folder of labels, the split beside it, and the path below both."""
    parts = member.split("/")
    folders = [part.strip().lower() for part in parts[:-1]]
    # From below: a folder above the dataset may be called `images` too.
    for n, (outer, inner) in reversed(list(enumerate(pairwise(folders)))):
        for split, kind in ((outer, inner), (inner, outer)):
            if split in splits and kind in (_IMAGES, folder):
                return kind, splits[split], "/".join(parts[n + 2 :])
    alone = next((each for each in folders if each in (_IMAGES, folder)), None)
    return alone, None, parts[-1]


def _by_lower_case(keys: Iterable[_Key]) -> defaultdict[_Key, list[_Key]]:
    folded: defaultdict[_Key, list[_Key]] = defaultdict(list)
    for split, stem in keys:
        folded[split, stem.lower()].append((split, stem))
    return folded
