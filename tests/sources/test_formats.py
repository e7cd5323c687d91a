"""What holds for every format: the same rows, whatever the download went through."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from stages.sources.formats import read_source
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import RawTree, open_tree
from tests.sources.conftest import write_folder
from tests.sources.layouts import LAYOUTS, Tree

TEXT = {".csv", ".txt", ".lst"}
LITTER = {"__MACOSX/._label.csv": b"x", ".DS_Store": b"x", "train/Thumbs.db": b"x"}
NUMBER = re.compile(r"\s*[0-9]+\s*")


def rows_of(tree: RawTree, layout: str) -> list[Candidate | Reject]:
    return list(read_source(tree, name="it", source=LAYOUTS[layout].source))


def said(rows: list[Candidate | Reject]) -> list[tuple[object, ...]]:
    """What rows say apart from the place where they stand."""
    return sorted(
        (row.reason,)
        if isinstance(row, Reject)
        else (
            "face", row.id, PurePosixPath(row.member).stem if row.image is None else "", row.label,
            row.split, row.photo, row.votes, row.box, row.confidence, row.image,
        )
        for row in rows
    )  # fmt: skip


def rewritten(tree: Tree, change: Callable[[str], str]) -> Tree:
    """The tree with its text tables changed."""
    return {
        name: change(content.decode()).encode() if PurePosixPath(name).suffix in TEXT else content
        for name, content in tree.items()
    }


def with_decimals(tree: Tree) -> Tree:
    """Every number of every table as pandas writes it where a column has a gap: 1.0 for 1."""

    def change(name: str, line: str) -> str:
        between = "," if PurePosixPath(name).suffix == ".csv" else " "
        fields = line.split(between)
        return between.join(f"{f.rstrip()}.0" if NUMBER.fullmatch(f) else f for f in fields)

    return {
        name: "\n".join(change(name, line) for line in content.decode().split("\n")).encode()
        if PurePosixPath(name).suffix in TEXT
        else content
        for name, content in tree.items()
    }


def with_thumbnails(tree: Tree) -> Tree:
    """As a Synology gives it back: thumbnails beside each file."""
    paths = [PurePosixPath(name) for name in tree]
    return {
        **tree,
        **{f"{p.parent}/@eaDir/{p.name}/SYNOPHOTO_THUMB_M.jpg": b"x" for p in paths},
        **{f"{p.parent}/#recycle/{p.name}": b"x" for p in paths},
    }


def upper_case_suffixes(tree: Tree) -> Tree:
    return {name.replace(".jpg", ".JPG").replace(".png", ".PNG"): tree[name] for name in tree}


FORMS: dict[str, Callable[[Tree], Tree]] = {
    "below other folders": lambda tree: {f"my data/Download (1)/{n}": tree[n] for n in tree},
    "with litter": lambda tree: {**tree, **LITTER},
    "with thumbnails of a NAS": with_thumbnails,
    "with numbers as pandas writes them": with_decimals,
    "with a byte order mark": lambda tree: rewritten(tree, lambda text: f"\ufeff{text}"),
    "with carriage returns": lambda tree: rewritten(tree, lambda text: text.replace("\n", "\r\n")),
    "with old line ends": lambda tree: rewritten(tree, lambda text: text.replace("\n", "\r")),
    "with spaces and blank lines": lambda tree: rewritten(
        tree, lambda text: "\n  \n" + text.replace("\n", " \t\n\n  ")
    ),
    "without the last line end": lambda tree: rewritten(tree, str.rstrip),
    "with upper-case suffixes": upper_case_suffixes,
    "with decomposed file names": lambda tree: {
        unicodedata.normalize("NFD", name): tree[name] for name in tree
    },
    "with decomposed tables": lambda tree: rewritten(
        tree, lambda text: unicodedata.normalize("NFD", text)
    ),
    "written in another order": lambda tree: dict(reversed(tree.items())),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_faces_and_its_rows_are_all_there(make_tree, layout):
    rows = rows_of(make_tree(LAYOUTS[layout].files), layout)
    assert len(rows) == LAYOUTS[layout].count_rows(LAYOUTS[layout].files)
    assert sum(isinstance(row, Candidate) for row in rows) >= 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_download_went_through_changes_no_row(tmp_path: Path, make_tree, layout, form):
    with open_tree(write_folder(tmp_path / "plain", LAYOUTS[layout].files), key="k") as plain:
        expected = said(rows_of(plain, layout))
    assert said(rows_of(make_tree(FORMS[form](LAYOUTS[layout].files)), layout)) == expected
