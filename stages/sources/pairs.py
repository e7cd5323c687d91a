"""Pictures with a label file each: `<split>/images/a.jpg` and `<split>/labels/a.txt`."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from stages.runtime.errors import UserError
from stages.sources.pictures import PICTURE_SUFFIXES
from stages.sources.rows import Reject, Split
from stages.sources.tree import RawTree

_IMAGES = "images"
_Key = tuple[Split, str]


@dataclass(frozen=True)
class PairLayout:
    """Names of the folders, in lower case, and what a label file's name adds to its picture's.

    `no_labels` are names of files that end as label files do, but hold no labels.
    """

    splits: Mapping[str, Split]
    labels: str
    ending: str
    no_labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LabelPair:
    """A picture and its label file, one of which may be missing.

    `name` is the path that they share below their folders, without what their names end in.
    """

    split: Split
    name: str
    picture: str | None
    labels: str | None


def read_pairs(tree: RawTree, *, layout: PairLayout, name: str) -> Iterator[LabelPair | Reject]:
    """Yield every picture and label file once, in pairs by their names.

    A name is spelt exactly so, else letter case aside where that leaves no choice. Both
    `<split>/images` and `images/<split>` are read, below extra folders too. Files that are neither
    pictures nor end as label files do are no rows. Of two files of one name the first stays; the
    others are rejects.

    Raises:
        UserError: if there are none, or some beside which no folder names a split.
    """
    expected = f"expected {{{','.join(layout.splits)}}}/{{{_IMAGES},{layout.labels}}}"
    pictures: dict[_Key, str] = {}
    labels: dict[_Key, str] = {}
    for member in tree.members:
        folder, split, below = _place(member, layout=layout)
        if folder is None or (stem := _stem(below, folder=folder, layout=layout)) is None:
            continue
        if split is None:
            raise UserError(f"source {name}: {member}: {expected}")
        files = pictures if folder == _IMAGES else labels
        first = files.setdefault((split, stem), member)
        if first != member:
            picture = member if folder == _IMAGES else None
            yield Reject(member, "row_repeated", f"has one name with {first}", picture)
    if not pictures and not labels:
        raise tree.layout_error(name, expected)
    # Labels and pictures left over that are each other's only match, letter case aside.
    left_pictures = _by_lower_case(pictures.keys() - labels.keys())
    for folded, label_keys in _by_lower_case(labels.keys() - pictures.keys()).items():
        if len(label_keys) == len(picture_keys := left_pictures[folded]) == 1:
            labels[picture_keys[0]] = labels.pop(label_keys[0])
    for key in sorted(pictures.keys() | labels.keys()):
        yield LabelPair(*key, pictures.get(key), labels.get(key))


def _place(member: str, *, layout: PairLayout) -> tuple[str | None, Split | None, str]:
    """Find `images` or the folder of labels, the split beside it, and the path below both."""
    parts = member.split("/")
    folders = [part.strip().lower() for part in parts[:-1]]
    # From below: a folder above the dataset may be called `images` too.
    for n, (outer, inner) in reversed(list(enumerate(pairwise(folders)))):
        for split, folder in ((outer, inner), (inner, outer)):
            if split in layout.splits and folder in (_IMAGES, layout.labels):
                return folder, layout.splits[split], "/".join(parts[n + 2 :])
    alone = next((folder for folder in folders if folder in (_IMAGES, layout.labels)), None)
    return alone, None, parts[-1]


def _stem(path: str, *, folder: str, layout: PairLayout) -> str | None:
    """Cut off a path's ending; None if it is no picture or label file."""
    if folder == _IMAGES:
        ending = PurePosixPath(path).suffix
        return path.removesuffix(ending) if ending.lower() in PICTURE_SUFFIXES else None
    if PurePosixPath(path).name.lower() in layout.no_labels:
        return None
    return path[: -len(layout.ending)] if path.lower().endswith(layout.ending) else None


def _by_lower_case(keys: Iterable[_Key]) -> defaultdict[_Key, list[_Key]]:
    folded: defaultdict[_Key, list[_Key]] = defaultdict(list)
    for split, stem in keys:
        folded[split, stem.lower()].append((split, stem))
    return folded
