"""rejects.csv has every refused row in order; rejects.png shows some of each reason."""

from pathlib import Path

import numpy as np
import pytest

from stages.faces.decode import BoxPx, Image, decode, encode_png
from stages.intake.intake import RejectWriter, read_rejects
from stages.intake.pictures import RefusedRow
from stages.sources.rows import Reject
from stages.sources.tree import RawTree, open_tree
from tests.sources.conftest import write_folder

MARK, RED, BLUE = (255, 0, 200), (200, 0, 0), (0, 0, 200)


def flat(colour: tuple[int, int, int]) -> bytes:
    return encode_png(np.full((96, 96, 3), colour, np.uint8))


def share(sheet: Image, colour: tuple[int, int, int]) -> int:
    return int((sheet == colour).all(axis=2).sum())


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    files = {f"{number}.png": flat((number, 0, 99)) for number in range(40)}
    files |= {"red.png": flat(RED), "broken.png": b"broken"}
    return open_tree(write_folder(tmp_path / "raw", files), key="x")


def sheet_of(refused: list[RefusedRow], tree: RawTree, folder: Path) -> Image:
    folder.mkdir()
    writer = RejectWriter()
    for row in refused:
        writer.add(row)
    writer.write(folder, tree, name="x")
    return decode((folder / "rejects.png").read_bytes())


def test_rows_are_written_in_their_order_and_read_back(tree: RawTree, tmp_path: Path):
    rejects = [
        Reject("b.csv:2", "label_invalid", 'got "a, b"\n'),
        Reject("a.png", "not_a_class"),
        Reject("é.png", "label_invalid", "ü"),
    ]
    sheet_of([RefusedRow(reject) for reject in rejects], tree, tmp_path / "out")
    assert read_rejects(tmp_path / "out") == [
        {"source": "x", "row": r.row, "reason": r.reason, "detail": r.detail} for r in rejects
    ]
    none = sheet_of([], tree, tmp_path / "none")
    assert share(none, (255, 255, 255)) < none.shape[0] * none.shape[1]
    assert read_rejects(tmp_path / "none") == []


def test_a_member_or_the_picture_itself_is_shown_and_what_cannot_be_has_its_line(
    tree: RawTree, tmp_path: Path
):
    shown = [
        RefusedRow(Reject("1", "not_a_class", member="red.png")),
        RefusedRow(Reject("2", "no_majority"), image=flat(BLUE)),
    ]
    broken = RefusedRow(Reject("3", "image_unreadable", member="broken.png"))
    sheet = sheet_of(shown, tree, tmp_path / "shown")
    assert share(sheet, RED) == share(sheet, BLUE) == 96 * 96
    missing = RefusedRow(Reject("4", "image_missing"))
    longer = sheet_of([*shown, broken, missing], tree, tmp_path / "all")
    assert longer.shape[0] == sheet.shape[0] + 2 * (96 + 4)
    assert share(longer, RED) == 96 * 96


def test_a_box_is_drawn_on_its_photo(tree: RawTree, tmp_path: Path):
    reject = Reject("1", "box_outside", member="red.png")
    for number, edges in enumerate([(10, 10, 60, 60), (60, 60, 10, 10), (200, 0, 300, 50)]):
        refused = RefusedRow(reject, box=BoxPx(*edges))
        sheet = sheet_of([refused], tree, tmp_path / str(number))
        assert share(sheet, MARK) > 50
        assert share(sheet, RED) > 96 * 96 / 2


def test_twelve_of_many_are_drawn_in_whatever_order_they_come(tree: RawTree, tmp_path: Path):
    refused = [RefusedRow(Reject(f"{n}.png", "not_a_class", member=f"{n}.png")) for n in range(40)]
    sheet = sheet_of(refused, tree, tmp_path / "first")
    drawn = [number for number in range(40) if share(sheet, (number, 0, 99))]
    assert len(drawn) == 12
    assert drawn != list(range(12))
    assert (sheet == sheet_of(refused[::-1], tree, tmp_path / "again")).all()
