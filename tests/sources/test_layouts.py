"""What holds for every layout: its rows, whatever its download went through and whatever is broken."""

import random
import re
import unicodedata
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.config import CLASSES
from stages.faces.decode import Box, encode_png
from stages.runtime.errors import UserError
from stages.sources.formats import read_source
from stages.sources.members import UnreadableMemberError
from stages.sources.rows import Candidate, Fault, Reject, Rule
from stages.sources.tree import RawTree, open_tree
from tests.sources.conftest import became, in_memory, write_zip
from tests.sources.layouts import LAYOUTS, Tree
from tests.sources.mutations import mutated

NUM_TREES = 150
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
HAPPY, PERCENTS = (0, 0, 0, 8, 0, 0, 1), (0.2, 0.3, 0.2, 0.05, 0.15, 0.1, 0.0)
GREY = {"image": encode_png(np.full((48, 48), 7, np.uint8))}
BOX = Box(1.0, -1.0, 2.0, -1.0, unit="share", pixels="turned")
stored = partial(Box, unit="px", pixels="stored")
TEXT = {".csv", ".txt", ".lst"}


def rows_of(tree: RawTree, layout: str) -> list[Candidate | Reject]:
    return list(read_source(tree, name="it", source=LAYOUTS[layout].source))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_its_rows(make_tree, caplog, layout):
    rows = rows_of(make_tree(LAYOUTS[layout].files), layout)
    words = [getattr(row, "reason", None) or f"{row.id} {row.label} {row.split}" for row in rows]
    assert sorted(words) == LAYOUTS[layout].rows
    # Tables stay out of messages, however wrong a row is.
    assert all(len(getattr(row, "detail", "")) < 200 for row in rows)
    assert ("native_px is the photo's" in caplog.text) == (layout == "rafdb_compound")


@pytest.mark.parametrize(
    ("layout", "member", "photo", "more"),
    [
        ("ferplus", "FER2013Train/fera.png", "fera", {"votes": HAPPY}),
        ("ferplus_csv", "fer2013.csv:2 (fer0000000.png)", "row0000000", GREY),
        ("fer2013", "icml_face_data.csv:2", "row0000000", GREY),
        ("rafml", "Image/aligned/1_aligned.jpg", "1", {"votes": PERCENTS}),
        ("affectnet", "Manually_Annotated_Images/1/a.jpg", "1/a", {"box": stored(1, 2, 31, 42)}),
        ("affectnet_npy", "train_set/images/0.jpg", "train/0", {"box": None}),
        ("affectnet_yolo", "test/images/d.jpg", "test/d", {"box": BOX}),
        ("expw", "image/origin/party 1.jpg", "party 1", {"box": stored(20, 10, 60, 70)}),
    ],
)
def test_what_else_the_first_face_says(layout, member, photo, more):
    rows = rows_of(in_memory(LAYOUTS[layout].files), layout)
    face = next(row for row in rows if isinstance(row, Candidate))
    assert (face.member, face.photo) == (member, f"it/{photo}")
    assert {name: getattr(face, name) for name in more} == more
    assert face.confidence == (60.0 if layout == "expw" else None)


# --- what a download goes through ----------------------------------------------------------------


def said(rows: list[Candidate | Reject]) -> list[str]:
    """What rows say apart from the place where they stand."""
    return sorted(
        row.reason
        if isinstance(row, Reject)
        else str(replace(row, row="", member="" if row.image else PurePosixPath(row.member).stem))
        for row in rows
    )


def rewritten(tree: Tree, change: Callable[[str], str]) -> Tree:
    """The tree with its text tables changed."""
    texts = {name for name in tree if PurePosixPath(name).suffix in TEXT and "latin" not in name}
    changed = {name: change(tree[name].decode()).encode() for name in texts}
    return {**tree, **changed}


def with_decimals(text: str) -> str:
    """1.0 for 1, as pandas writes it where a column has a gap."""
    between = "," if "," in text else r"[\t ]"
    return re.sub(rf"(?m)(^|{between}) *([0-9]+)(?= *({between}|$))", r"\1\2.0", text)


FORMS: dict[str, Callable[[Tree], Tree]] = {
    "below other folders": lambda tree: {f"my data/Download (1)/{n}": tree[n] for n in tree},
    "with numbers as pandas writes them": lambda tree: rewritten(tree, with_decimals),
    "with a byte order mark": lambda tree: rewritten(tree, lambda text: f"\ufeff{text}"),
    "with carriage returns": lambda tree: rewritten(tree, lambda text: text.replace("\n", "\r\n")),
    "with spaces and blank lines": lambda tree: rewritten(
        tree, lambda text: "\n  \n" + text.replace("\n", " \t\n\n  ")
    ),
    "with upper-case suffixes": lambda tree: {
        re.sub(r"(\.jpg|(?<=/fer.)\.png)$", lambda end: end[0].upper(), name): tree[name]
        for name in tree
    },
    "with decomposed file names": lambda tree: {
        unicodedata.normalize("NFD", name): tree[name] for name in tree
    },
    "with decomposed tables": lambda tree: rewritten(
        tree, lambda text: unicodedata.normalize("NFD", text)
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_download_went_through_changes_no_row(make_tree, layout, form):
    files = LAYOUTS[layout].files
    expected = said(rows_of(in_memory(files), layout))
    assert said(rows_of(make_tree(FORMS[form](files)), layout)) == expected


# --- numbers as people write them ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "before", "number", "after"),
    [
        ("ferplus", '48)", ', "1", ",8,0"),
        ("fer2013", "\n", "0", ", Training"),
        ("rafdb", "train_1é.jpg ", "1", "\n"),
        ("rafml", "4.JPG ", "1", "\n"),
        ("affectnet", ";4,", "1", ",0.1"),
        ("affectnet", "a.jpg,", "1", ", 2,30"),
        ("affectnet_yolo", "", "0", " 0.5 0.5 0.25 0.5"),
        ("expw", "party 1.jpg ", "0", " 10 20"),
        ("expw", "party 1.jpg 0 ", "10", " 20"),
        ("expw", "60.0 ", "3", "\n"),
    ],
)
def test_reported_a_number_of_any_table_is_read_or_refused_with_its_row(
    layout, before, number, after
):
    files, text = LAYOUTS[layout].files, f"{before}{number}{after}".encode()
    (table,) = [name for name, content in files.items() if text in content]
    line = files[table].split(text)[0].count(b"\n") + before.count("\n") + 1

    def rows(value: str) -> list[Candidate | Reject]:
        changed = files[table].replace(text, f"{before}{value}{after}".encode(), 1)
        return rows_of(in_memory({**files, table: changed}), layout)

    assert rows(f"{number}.0") == rows(f"{number}.000e+00") == rows(number)
    assert (f"{table}:{line}", "face") in became(rows(number)) or layout == "rafml"
    for value in ("1.5", "nan", "1_0", "inf"):
        reasons = {reason for row, reason in became(rows(value)) if row == f"{table}:{line}"}
        assert reasons & {"row_malformed", "label_invalid"}, value


# --- trees broken at random: every row is a face or a reject, or there is one message ------------


@cache
def told_of(layout: str) -> set[str]:
    rows = rows_of(in_memory(LAYOUTS[layout].files), layout)
    return {row.row for row in rows} | {row.member for row in rows if row.member}


def rows_due(layout: str, files: Tree) -> set[str]:
    """Lines of the table, and files that were rows of the whole tree: here they must be rows too."""
    table, lines = LAYOUTS[layout].table, []
    if table and table not in files:
        return set()  # perhaps read as another layout
    with suppress(UnicodeDecodeError):
        lines = re.split(r"\r\n|\r|\n", files.get(table, b"").decode("utf-8-sig"))
    numbers = [n for n, line in enumerate(lines, start=1) if re.search(r"\w", line)]
    # The first line of a .csv may be its header.
    due = {f"{table}:{n}" for n in numbers[table.endswith(".csv") :]}
    if layout in {"affectnet", "rafdb_compound"}:
        return due  # where the table looks, or where no aligned picture lies
    return due | {name for name in told_of(layout) & files.keys() if not name.endswith(".txt")}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated") / "it.zip"


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=NUM_TREES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_faces_and_rejects_are_the_rows_of_any_tree(scratch: Path, layout: str, number, seed):
    files = mutated(LAYOUTS[layout].files, number=number, seed=seed)
    with open_tree(write_zip(scratch, files), key="standardize.sources.it.path") as tree:
        try:
            rows = rows_of(tree, layout)
        except UserError as error:
            message = str(error).lower()
            names = [PurePosixPath(name).name.lower() for name in files]
            assert any(word in message for word in ["source it", ".it.", *names])
            return
        places = {row.row for row in rows}
        assert len(rows) == len(places)
        assert all({place, place.rpartition(":")[0]} & files.keys() for place in places)
        told = places | {row.member for row in rows}
        due = rows_due(layout, files)
        assert {each for each in due if not {each, each.rpartition(":")[0]} & told} == set()
        faces = [row for row in rows if isinstance(row, Candidate)]
        assert len({face.id for face in faces}) == len(faces)
        assert len({(face.member, face.box) for face in faces}) == len(faces)
        assert {face.label for face in faces} <= set(CLASSES)
        reasons = {row.reason for row in rows if isinstance(row, Reject)}
        assert reasons <= {*get_args(Rule), *get_args(Fault)}
        for row in rows:
            if row.member is not None and getattr(row, "image", None) is None:
                tree.read(row.member)


@settings(max_examples=NUM_TREES)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 4))
def test_a_zip_with_broken_bytes_is_refused_or_gives_its_rows(scratch: Path, seed, number):
    rng = random.Random(seed)
    with zipfile.ZipFile(scratch, "w", rng.choice(METHODS)) as archive:
        for name, content in LAYOUTS["rafdb"].files.items():
            archive.writestr(name, content * 3)
    content = bytearray(scratch.read_bytes())
    for _ in range(number):
        content[rng.randrange(len(content))] = rng.randrange(256)
    scratch.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
    with suppress(UserError), open_tree(scratch, key="k") as tree:
        assert len(tree.content_sha256()) == 64
        for row in rows_of(tree, "rafdb"):
            with suppress(UnreadableMemberError):
                tree.read(row.member or row.row.rpartition(":")[0])
