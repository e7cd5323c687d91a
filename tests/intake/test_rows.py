import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import decode, encode_png
from stages.intake import rows as intake_rows
from stages.intake.picture import Framing, Picture
from stages.intake.rejects import Refused
from stages.intake.rows import PlacedRow, RowReader, batches
from stages.sources.face import Box, Candidate, Reject
from stages.sources.tree import RawTree, open_tree

FRAMING = Framing(margin=0.3, max_side_px=64, detector=None)
PHOTOS = {
    f"{name}.png": encode_png(np.random.default_rng(n).integers(0, 256, (60, 60, 3), np.uint8))
    for n, name in enumerate("abc")
}


def face(member: str, number: int) -> Candidate:
    box = Box(number, number, number + 20, number + 20, pixels="stored")
    key = f"{member}#{number}"
    return Candidate(f"list:{key}", key, member, "Happy", None, photo=member, box=box)


def opened(folder: Path, files: dict[str, bytes]) -> RawTree:
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return open_tree(path, key="k")


def placed(tree: RawTree, rows: list[Candidate | Reject]) -> list[PlacedRow]:
    return [
        PlacedRow(row, tree.place(row.member) if isinstance(row, Candidate) else None)
        for row in rows
    ]


def test_a_photo_is_decoded_once_for_all_its_faces_wherever_their_rows_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded = []

    def noted(data: bytes) -> np.ndarray:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(intake_rows, "decode", noted)
    with opened(tmp_path, PHOTOS) as tree:
        read = RowReader(tree.reader, FRAMING)
        rows: list[Candidate | Reject] = [
            face(f"{name}.png", n) for n in range(4) for name in "cab"
        ]
        rows.insert(5, Reject("list:9", "row_malformed"))
        found = read(placed(tree, rows))
        assert len(decoded) == 3
        assert found == [read(placed(tree, [row]))[0] for row in rows]
        assert len(decoded) == 3 + 12
    assert found[5] == Refused(Reject("list:9", "row_malformed"))
    assert len({picture.sha256 for picture in found if isinstance(picture, Picture)}) == 12


def test_each_face_of_a_broken_photo_is_refused_by_its_own_row(tmp_path: Path):
    with opened(tmp_path, {"a.png": PHOTOS["a.png"][:300], "b.png": PHOTOS["b.png"]}) as tree:
        rows = [face("a.png", 0), face("b.png", 0), face("a.png", 1)]
        first, second, third = RowReader(tree.reader, FRAMING)(placed(tree, [*rows]))
    assert isinstance(second, Picture)
    for found, row in ((first, rows[0]), (third, rows[2])):
        assert isinstance(found, Refused)
        assert (found.reject.row, found.reject.reason) == (row.row, "image_unreadable")


def test_a_pickled_reader_finds_the_same_in_a_zip_and_in_a_folder(tmp_path: Path):
    rows: list[Candidate | Reject] = [face(name, n) for name in PHOTOS for n in range(2)]
    with opened(tmp_path, PHOTOS) as tree:
        expected = RowReader(tree.reader, FRAMING)(placed(tree, rows))
        copy, there = pickle.loads(
            pickle.dumps((RowReader(tree.reader, FRAMING), placed(tree, rows)))
        )
        assert copy(there) == expected
        copy.members.close()
    for name, data in PHOTOS.items():
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    with open_tree(tmp_path / "folder", key="k") as tree:
        copy, there = pickle.loads(
            pickle.dumps((RowReader(tree.reader, FRAMING), placed(tree, rows)))
        )
        assert copy(there) == expected


def test_a_row_that_brings_its_picture_needs_no_place(tmp_path: Path):
    data = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
    row = Candidate("t:2", "x", "t:2", "Sad", "train", photo="x", image=data)
    with opened(tmp_path, PHOTOS) as tree:
        (found,) = RowReader(tree.reader, FRAMING)([PlacedRow(row, None)])
    assert isinstance(found, Picture)
    assert found.image == data


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.integers(1, 9))
def test_batches_are_the_rows_in_order_and_never_part_neighbours_of_one_photo(said, at_least):
    rows = [
        PlacedRow(face(name, n) if is_face else Reject(f"r{n}", "image_missing"), None)
        for n, (name, is_face) in enumerate(said)
    ]
    found = list(batches(rows, at_least=at_least))
    assert [row for batch in found for row in batch] == rows
    assert all(len(batch) >= at_least for batch in found[:-1])
    assert all(batch for batch in found)
    for one, two in pairwise(found):
        members = one[-1].row.member, two[0].row.member
        assert members[0] is None or members[0] != members[1]
