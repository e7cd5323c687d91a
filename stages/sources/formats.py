"""Which adapter reads a source: by the type of its params section."""

import re
from collections.abc import Iterator
from dataclasses import replace

from stages.config import (
    AffectnetSource,
    AffectnetYoloSource,
    ExpwSource,
    Fer2013Source,
    FerplusSource,
    Folder7Source,
    RafdbCompoundSource,
    RafdbSource,
    RafmlSource,
    Source,
)
from stages.sources import (
    affectnet,
    affectnet_yolo,
    expw,
    fer2013,
    ferplus,
    folder7,
    rafdb,
    rafml,
)
from stages.sources.face import Candidate, Reject
from stages.sources.labels import split_of
from stages.sources.repeats import settle_repeats
from stages.sources.tree import RawTree

# Roboflow writes versions of x.jpg, altered at random, as x_jpg.rf.<hash>.jpg, a hash each.
_VERSION = re.compile(r"\.rf\.[0-9A-Za-z]+(\.[A-Za-z]{3,4})?$")


def read_source(tree: RawTree, *, name: str, source: Source) -> Iterator[Candidate | Reject]:
    """Yield every raw row of a source, as a candidate or a reject, in an order that never changes.

    No two candidates share an id, or a picture and box. Versions of one photo, as an annotation
    tool names them, are one photo.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    return settle_repeats(map(_of_one_photo, _read(tree, name=name, source=source)))


def _of_one_photo(row: Candidate | Reject) -> Candidate | Reject:
    """The row with the photo that its picture is a version of, in whichever split's folder."""
    if isinstance(row, Reject) or not _VERSION.search(row.photo):
        return row
    name, *folders, version = row.photo.split("/")
    if folders and split_of(folders[0]):
        folders = folders[1:]
    return replace(row, photo="/".join([name, *folders, _VERSION.sub("", version)]))


def _read(tree: RawTree, *, name: str, source: Source) -> Iterator[Candidate | Reject]:
    match source:
        case FerplusSource():
            return ferplus.read(tree, name=name, source=source)
        case Fer2013Source():
            return fer2013.read(tree, name=name, source=source)
        case RafdbSource() | RafdbCompoundSource():
            return rafdb.read(tree, name=name, source=source)
        case RafmlSource():
            return rafml.read(tree, name=name, source=source)
        case AffectnetSource():
            return affectnet.read(tree, name=name, source=source)
        case AffectnetYoloSource():
            return affectnet_yolo.read(tree, name=name, source=source)
        case Folder7Source():
            return folder7.read(tree, name=name, source=source)
        case ExpwSource():
            return expw.read(tree, name=name, source=source)
