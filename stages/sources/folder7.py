"""Any dataset in folders named by split and class; AffectNet as on Kaggle is one."""

from collections.abc import Iterator, Mapping

from stages.config import Folder7Source, is_not_a_class
from stages.runtime.errors import UserError
from stages.sources.class_folders import Placed, read_class_folders
from stages.sources.face import Candidate, Reject
from stages.sources.labels import canonical
from stages.sources.tables import quoted
from stages.sources.tree import RawTree, without_jpg


def read(tree: RawTree, *, name: str, source: Folder7Source) -> Iterator[Candidate | Reject]:
    """Yield every file below a split's folder. The id keeps the folders: stems recur in them.

    Raises:
        UserError: for folders that are no split, or a class folder of the params that is not there.
    """
    rows = list(read_class_folders(tree, name=name))
    found = {row.class_name for row in rows if isinstance(row, Placed)}
    if missing := sorted(set(source.class_folders) - found):
        raise UserError(
            f"params.yaml: standardize.sources.{name}.class_folders: no folders {missing}; "
            f"found: {sorted(found)}"
        )
    for row in rows:
        if isinstance(row, Reject):
            yield row
        else:
            yield _candidate(row, name=name, class_folders=source.class_folders)


def _candidate(
    placed: Placed, *, name: str, class_folders: Mapping[str, str]
) -> Candidate | Reject:
    # What the params declare stands above what a name seems to say.
    meaning = class_folders.get(placed.class_name, placed.class_name)
    label = canonical(meaning)
    if label is not None:
        key = f"{name}/{without_jpg(placed.path)}"
        return Candidate(placed.member, key, placed.member, label, placed.split, photo=key)
    if is_not_a_class(meaning):
        return Reject(placed.member, "not_a_class", meaning, placed.member)
    detail = (
        f"expected a folder named by a class, got {quoted(placed.class_name)}; class_folders of a "
        "folder7 source says what such a folder means"
    )
    return Reject(placed.member, "label_invalid", detail, placed.member)
