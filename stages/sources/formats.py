"""Which adapter reads a source: by the type of its params section."""

from collections.abc import Iterator

from stages.config import ExpwSource, FerplusSource, Folder7Source, RafdbSource, Source
from stages.sources import expw, ferplus, folder7, rafdb
from stages.sources.face import Candidate, Reject
from stages.sources.tree import RawTree


def read_source(tree: RawTree, *, name: str, source: Source) -> Iterator[Candidate | Reject]:
    """Yield every raw row of a source, as a candidate or a reject, in an order that never changes.

    Raises:
        UserError: if the source is not laid out as its format says.
    """
    match source:
        case FerplusSource():
            return ferplus.read(tree, name=name, source=source)
        case RafdbSource():
            return rafdb.read(tree, name=name, source=source)
        case Folder7Source():
            return folder7.read(tree, name=name, source=source)
        case ExpwSource():
            return expw.read(tree, name=name, source=source)
