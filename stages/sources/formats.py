"""Which adapter reads a source: by the type of its params section."""

from collections.abc import Iterator

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
from stages.sources.repeats import settle_repeats
from stages.sources.tree import RawTree


def read_source(tree: RawTree, *, name: str, source: Source) -> Iterator[Candidate | Reject]:
    """Yield every raw row of a source, as a candidate or a reject, in an order that never changes.

    No two candidates share an id, or a picture and box.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    return settle_repeats(_read(tree, name=name, source=source))


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
