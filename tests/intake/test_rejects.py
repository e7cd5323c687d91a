import random
from pathlib import Path

import numpy as np
import pytest

from stages.faces.boxes import BoxPx
from stages.faces.decode import Image, decode, encode_png
from stages.intake.pictures import RefusedRow
from stages.intake.rejects import RejectWriter, read_rejects
from stages.sources.rows import Reject
from stages.sources.tree import RawTree, open_tree

MARK = (255, 0, 200)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def flat(colour: tuple[int, int, int], side: int = 96) -> bytes:
    return encode_png(np.full((side, side, 3), colour, np.uint8))


def share(sheet: Image, colour: tuple[int, int, int]) -> int:
    return int((sheet == colour).all(axis=2).sum())


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(40):
        (raw / f"{number}.png").write_bytes(flat((number, 0, 99)))
    (raw / "red.png").write_bytes(flat(RED))
    (raw / "broken.png").write_bytes(b"broken")
    return open_tree(raw, key="x")


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


def test_counts_come_with_the_most_frequent_first_and_then_by_name():
    writer = RejectWriter()
    for number, reason in enumerate(["not_a_class", "box_empty", "box_empty", "box_outside"]):
        writer.add(RefusedRow(Reject(f"{number}", reason)))
    assert list(writer.counts().items()) == [
        ("box_empty", 2), ("box_outside", 1), ("not_a_class", 1),
    ]  # fmt: skip


def test_a_member_or_the_picture_itself_is_shown(tree: RawTree, tmp_path: Path):
    of_member = RefusedRow(Reject("1", "not_a_class", member="red.png"))
    of_table = RefusedRow(Reject("2", "no_majority"), image=flat(BLUE))
    sheet = sheet_of([of_member, of_table], tree, tmp_path / "out")
    assert share(sheet, RED) == share(sheet, BLUE) == 96 * 96


@pytest.mark.parametrize("edges", [(10, 10, 60, 60), (60, 60, 10, 10), (200, 0, 300, 50)])
def test_a_box_is_drawn_on_its_photo(tree: RawTree, tmp_path: Path, edges):
    reject = Reject("1", "box_outside", member="red.png")
    plain = sheet_of([RefusedRow(reject)], tree, tmp_path / "plain")
    boxed = sheet_of([RefusedRow(reject, box=BoxPx(*edges))], tree, tmp_path / "boxed")
    assert share(plain, MARK) == 0
    assert share(boxed, MARK) > 50
    assert share(boxed, RED) > 96 * 96 / 2


def test_twelve_of_many_are_drawn_in_whatever_order_they_come(tree: RawTree, tmp_path: Path):
    refused = [RefusedRow(Reject(f"{n}.png", "not_a_class", member=f"{n}.png")) for n in range(40)]
    sheet = sheet_of(refused, tree, tmp_path / "one")
    drawn = [number for number in range(40) if share(sheet, (number, 0, 99))]
    assert len(drawn) == 12
    assert drawn != list(range(12))
    random.Random(0).shuffle(refused)
    assert (sheet == sheet_of(refused, tree, tmp_path / "two")).all()


def test_what_cannot_be_shown_has_its_line_without_pictures(tree: RawTree, tmp_path: Path):
    shown = RefusedRow(Reject("1", "not_a_class", member="red.png"))
    broken = RefusedRow(Reject("2", "image_unreadable", member="broken.png"))
    missing = RefusedRow(Reject("3", "image_missing"))
    one = sheet_of([shown], tree, tmp_path / "one")
    three = sheet_of([shown, broken, missing], tree, tmp_path / "three")
    assert three.shape[0] == one.shape[0] + 2 * (96 + 4)
    assert share(three, RED) == share(one, RED)


def test_a_source_without_rejects_has_a_sheet_that_says_so(tree: RawTree, tmp_path: Path):
    sheet = sheet_of([], tree, tmp_path / "out")
    assert share(sheet, (255, 255, 255)) < sheet.shape[0] * sheet.shape[1]
    assert read_rejects(tmp_path / "out") == []
