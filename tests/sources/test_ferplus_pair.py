"""FERPlus as the csv pair: the n-th row of both tables is one picture, whatever it is called."""

import csv
import io

import cv2
import numpy as np
import pytest
from shipped import shipped

from stages.config import Fer2013Source, FerplusSource
from stages.runtime.errors import UserError
from stages.sources.formats import read_source
from stages.sources.rows import Candidate, Reject

SOURCE = shipped(FerplusSource, format="ferplus", path="ferplus")
WHOLE = '"(0, 0, 48, 48)"'
HAPPY, SAD, NOBODY = "1,8,0,0,0,0,0,0,1,0", "0,0,0,9,1,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,10"


def rows_of(tree):
    return list(read_source(tree, name="ferplus", source=SOURCE))


def pixel_text(value: int) -> str:
    return " ".join([str(value)] * 48 * 48)


def pair(pixel_rows: list[tuple[str, str]], vote_rows: list[str], *, spaced: bool = False):
    text = io.StringIO()
    writer = csv.writer(text)
    if spaced:
        writer.writerow(["emotion", " Usage", " pixels"])
        writer.writerows(["3", usage, pixels] for usage, pixels in pixel_rows)
    else:
        writer.writerow(["emotion", "pixels", "Usage"])
        writer.writerows(["3", pixels, usage] for usage, pixels in pixel_rows)
    header = (
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    )
    votes = "\n".join([header, *vote_rows])
    return {
        "icml_face_data.csv" if spaced else "fer2013.csv": text.getvalue(),
        "fer2013new.csv": votes,
    }


@pytest.mark.parametrize("spaced", [False, True])
def test_csv_pair(make_tree, spaced):
    tree = make_tree(
        pair(
            [("Training", pixel_text(7)), ("PublicTest", pixel_text(8)), ("PrivateTest", "1 2")],
            [
                f"Training,fer0000000.png,{HAPPY}",
                f"PublicTest,,{HAPPY}",
                f"PrivateTest,fer2.png,{HAPPY}",
            ],
            spaced=spaced,
        )
    )
    rows = rows_of(tree)
    assert [row.id for row in rows[:2]] == ["ferplus/row0000000", "ferplus/row0000001"]
    assert [row.split for row in rows[:2]] == ["train", "val"]
    image = cv2.imdecode(np.frombuffer(rows[1].image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image, np.full((48, 48), 8))
    table = "icml_face_data.csv" if spaced else "fer2013.csv"
    assert [row.member for row in rows[:2]] == [f"{table}:2 (fer0000000.png)", f"{table}:3"]
    assert (rows[2].row, rows[2].reason) == (f"{table}:4", "image_unreadable")


LISTS = {
    f"data/{folder}/label.csv": f"fer{n:07d}.png,{WHOLE},{HAPPY}\n"
    for n, folder in enumerate(["FER2013Train", "FER2013Valid", "FER2013Test"])
}


def test_the_pair_beside_folders_without_pictures_as_ferplus_comes(make_tree):
    rows = [f"Training,fer0000000.png,{HAPPY}", f"PrivateTest,fer0000001.png,{HAPPY}"]
    pixels = [("Training", pixel_text(1)), ("PrivateTest", pixel_text(2))]
    found = rows_of(make_tree(pair(pixels, rows) | LISTS))
    assert [(row.id, row.row, row.split) for row in found] == [
        ("ferplus/row0000000", "fer2013new.csv:2", "train"),
        ("ferplus/row0000001", "fer2013new.csv:3", "test"),
    ]


def test_a_picture_in_any_folder_makes_the_folders_the_rows(make_tree):
    files = pair([("Training", pixel_text(1))], [f"Training,fer0000000.png,{HAPPY}"])
    found = rows_of(make_tree(files | LISTS | {"data/FER2013Valid/fer0000001.png": b"x"}))
    assert [(row.row, getattr(row, "reason", "face")) for row in found] == [
        ("data/FER2013Train/label.csv:1", "image_missing"),
        ("data/FER2013Valid/label.csv:1", "face"),
        ("data/FER2013Test/label.csv:1", "image_missing"),
    ]


def test_folders_without_pictures_or_pair_miss_their_pictures(make_tree):
    half = pair([("Training", pixel_text(1))], [f"Training,fer0000000.png,{HAPPY}"])
    del half["fer2013.csv"]
    found = rows_of(make_tree(half | LISTS))
    assert [row.reason for row in found] == ["image_missing"] * 3


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([f"Training,a.png,{HAPPY}"], "ends after 1"),
        ([f"Training,a.png,{HAPPY}", f"Training,b.png,{HAPPY}"], r"fer2013new.csv:3: .*'Training'"),
        ([f"Training,a.png,{HAPPY}", "PublicTest,b.png,1"], "expected 12 columns, got 3"),
    ],
)
def test_tables_that_do_not_match_are_an_error(make_tree, votes, message):
    pixels = [("Training", pixel_text(1)), ("PublicTest", pixel_text(2))]
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(pair(pixels, votes)))


# --- names ---------------------------------------------------------------------------------------


def pair_of(*votes: str):
    """A pair whose pixels tell the rows apart."""
    return pair(
        [("Training", pixel_text(n % 256)) for n in range(len(votes))],
        [f"Training,{vote}" for vote in votes],
    )


def test_reported_one_name_in_ferplus_and_fer2013_is_one_picture(make_tree):
    # As in Microsoft's table: after a row without a name the count of names goes on, or does not.
    votes = [f"fer0000000.png,{HAPPY}", f",{NOBODY}", f"fer0000001.png,{SAD}", f",{HAPPY}",
             f"fer0000003.png,{SAD}"]  # fmt: skip
    tree = make_tree(pair_of(*votes))
    plus = {row.id: row for row in rows_of(tree) if isinstance(row, Candidate)}
    other = Fer2013Source(format="fer2013", path="x")
    fer2013 = {row.id: row for row in read_source(tree, name="fer2013", source=other)}
    assert list(plus) == [f"ferplus/row000000{n}" for n in (0, 2, 3, 4)]
    for id_, row in plus.items():
        assert row.image == fer2013[id_.replace("ferplus", "fer2013")].image
    assert plus["ferplus/row0000002"].member == "fer2013.csv:4 (fer0000001.png)"
    assert plus["ferplus/row0000003"].member == "fer2013.csv:5"


def test_reported_a_name_of_a_generated_folder_is_no_row_of_fer2013(make_tree):
    files = {"FER2013Train/fer0000001.png": b"the third row of fer2013.csv"}
    files |= {"FER2013Train/label.csv": f"fer0000001.png,{WHOLE},{HAPPY}\n"}
    (face,) = rows_of(make_tree(files))
    rows = read_source(
        make_tree(pair_of(*[f",{HAPPY}"] * 3)),
        name="ferplus",
        source=Fer2013Source(format="fer2013", path="x"),
    )
    assert face.id not in {row.id for row in rows}


def test_reported_a_name_twice_in_the_pair_is_a_reject(make_tree):
    tree = make_tree(
        pair_of(f"a.png,{HAPPY}", f"b.png,{HAPPY}", f"A.PNG,{SAD}", f",{SAD}", f",{SAD}")
    )
    rows = rows_of(tree)
    assert [row.id for row in rows if isinstance(row, Candidate)] == [
        f"ferplus/row000000{n}" for n in (0, 1, 3, 4)
    ]
    assert rows[2] == Reject(
        "fer2013new.csv:4", "row_repeated", "'A.PNG' stands in fer2013new.csv:2"
    )


def test_the_names_that_microsofts_table_gives_to_two_rows_cost_no_row(make_tree):
    votes = [f"fer{n:07d}.png,{HAPPY}" for n in range(6970)]
    votes[5274] = f"fer0006953.png,{HAPPY}"
    votes[6000] = f"fer0000001.png,{HAPPY}"
    files = pair_of(*votes)
    # Pictures take a while: those of two rows do.
    lines = files["fer2013.csv"].splitlines()
    shown = {5275, 6954}
    files["fer2013.csv"] = "\n".join(
        line if n in shown | {0} else "3,x,Training" for n, line in enumerate(lines)
    )
    rows = rows_of(make_tree(files))
    faces = [row.id for row in rows if isinstance(row, Candidate)]
    assert faces == ["ferplus/row0005274", "ferplus/row0006953"]
    repeated = [row.row for row in rows if getattr(row, "reason", "") == "row_repeated"]
    assert repeated == ["fer2013new.csv:6002"]


def test_a_gap_is_no_name_however_it_is_written(make_tree):
    tree = make_tree(pair_of(*[f"{gap},{HAPPY}" for gap in ("", "NaN", "nan", "NULL", "None")]))
    assert [row.member for row in rows_of(tree)] == [f"fer2013.csv:{n}" for n in range(2, 7)]


def test_tables_that_are_repeated_show_no_picture_that_is_none(make_tree):
    # A table's row is no member: nothing may look for it.
    tree = make_tree(pair_of(f"a.png,{HAPPY}", f"a.png,{HAPPY}", f"b.png,{NOBODY}"))
    assert [row.member for row in rows_of(tree) if isinstance(row, Reject)] == [None, None]
