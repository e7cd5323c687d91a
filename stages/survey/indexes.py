"""What standardize counted in each source folder: faces, rejects by reason, crops."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from stages.faces.shards import INDEX, read_index, source_folders
from stages.runtime.errors import UserError


@dataclass(frozen=True)
class SourceIndex:
    """Counts of one folder, which can hold the faces of several sources (`expw` does).

    `crops` says how many faces were cropped how: `none` (came as faces), `box`, `aligned`. Of the
    last two, `boxes_partly_outside` reached over the edge of their photo. `boxes_in_turned_photos`,
    rejects included, are those whose photo EXIF turns, by the pixels that they count: `stored` or
    `turned`.
    """

    name: str
    faces: int
    rejects: Mapping[str, int]
    crops: Mapping[str, int]
    boxes_partly_outside: int
    boxes_in_turned_photos: Mapping[str, int]


def read_indexes(standardized: Path) -> tuple[SourceIndex, ...]:
    """Read the counts of all source folders, by name.

    Raises:
        UserError: if there is none, or one was written before these counts were.
    """
    return tuple(_read(folder) for folder in source_folders(standardized))


def _read(folder: Path) -> SourceIndex:
    index = read_index(folder)
    names = [field.name for field in fields(SourceIndex) if field.name != "name"]
    if missing := [name for name in names if name not in index]:
        raise UserError(
            f"{folder.name}/{INDEX}: expected counts of {missing}, got {sorted(index)}; "
            "run the standardize stage"
        )
    return SourceIndex(name=folder.name, **{name: index[name] for name in names})
