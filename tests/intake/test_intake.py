"""Whole sources, damaged in every way that a seed can think of: every row ends somewhere."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from shipped import shipped

from stages.config import Source, Standardize
from stages.faces.decode import decode, encode_png
from stages.faces.shards import read_faces, read_index
from stages.intake import intake
from stages.intake.intake import check_source, read_rejects, write_source
from stages.intake.pictures import Framing
from stages.runtime.errors import UserError
from stages.sources.tree import open_tree
from tests.sources.conftest import source_of, write_folder, write_zip
from tests.sources.layouts import LAYOUTS
from tests.sources.mutations import change_number, mutated

FRAMING = Framing(margin=0.3, max_side_px=64, detector=None)
NUM_TREES = 150
EXPW, FOLDERS, FERPLUS = source_of("expw"), source_of("folder7"), source_of("ferplus")


def write_raw(folder: Path, files: dict[str, bytes], *, zipped: bool) -> Path:
    folder.mkdir(exist_ok=True)
    return write_zip(folder / "x.zip", files) if zipped else write_folder(folder / "x", files)


def break_a_member(archive: Path, files: dict[str, bytes], rng: random.Random) -> None:
    """Change a byte of a picture in a zip, whose checksum is then wrong."""
    pictures = sorted(data for name, data in files.items() if len(data) > 300)
    if pictures:
        whole = rng.choice(pictures)
        place = rng.randrange(len(whole))
        broken = whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        archive.write_bytes(archive.read_bytes().replace(whole, broken, 1))


def standardize(folder: Path, raw: Path, source: Source, *, workers: int = 2) -> Path:
    out = folder / "standardized" / "x"
    out.mkdir(parents=True)
    settings = shipped(Standardize, sources={"x": source}, shard_mb=1)
    with open_tree(raw, key="standardize.sources.x.path") as tree:
        write_source(out, tree, name="x", settings=settings, framing=FRAMING, workers=workers)
    return out


def expect_every_row(out: Path, num_rows: int) -> None:
    faces, rejects = read_faces(out.parent, ["id"]), read_rejects(out)
    assert len(faces) + len(rejects) == num_rows
    assert faces["id"].is_unique
    assert len({reject["row"] for reject in rejects}) == len(rejects)
    index = read_index(out)
    assert (index["faces"], index["rows"]) == (len(faces), num_rows)
    assert index["rejects"] == Counter(reject["reason"] for reject in rejects)
    # The most frequent reasons come first.
    assert list(index["rejects"].values()) == sorted(index["rejects"].values(), reverse=True)
    assert sum(index["crops"].values()) == len(faces)
    decode((out / "rejects.png").read_bytes())


def test_of_a_damaged_source_every_row_is_a_face_or_a_reject(tmp_path: Path):
    reasons: Counter[str] = Counter()
    stopped = 0
    for seed in range(NUM_TREES):
        rng, folder = random.Random(seed), tmp_path / str(seed)
        case = LAYOUTS[rng.choice(sorted(LAYOUTS))]
        files = mutated(case.files, number=rng.randint(1, 6), seed=seed)
        path = write_raw(folder, files, zipped=True)
        if seed % 4 == 0:
            break_a_member(path, files, rng)
        try:
            out = standardize(folder, path, case.source)
        except UserError:
            stopped += 1
            continue
        expect_every_row(out, case.count_rows(files))
        reasons.update(read_index(out)["rejects"])
    assert stopped < NUM_TREES / 2
    assert {"image_unreadable", "image_missing", "label_missing", "label_invalid"} <= set(reasons)
    assert {"row_malformed", "box_empty", "not_a_class"} <= set(reasons)


@pytest.mark.parametrize("layout", ["expw", "ferplus"])
def test_damaged_sources_give_the_same_bytes_with_any_number_of_workers(
    tmp_path: Path, layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(intake, "_FEW_ROWS", 0)
    monkeypatch.setattr(intake, "_BATCH_ROWS", 2)
    files, rng = dict(LAYOUTS[layout].files), random.Random(1)
    for _ in range(4):
        change_number(files, rng)
    path, source = write_raw(tmp_path, files, zipped=True), LAYOUTS[layout].source
    outs = []
    for workers in (0, 1, 2):
        out = standardize(tmp_path / str(workers), path, source, workers=workers)
        outs.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert outs[0] == outs[1] == outs[2]


PHOTO = encode_png(np.full((100, 100, 3), 90, np.uint8))


def expw(boxes: list[str]) -> dict[str, bytes]:
    """Faces of `<photo>|<top> <left> <right> <bottom>`, of which photo a is there."""
    named = [box.split("|") for box in boxes]
    lines = [f"{name}.jpg {n} {box} 70.5 1" for n, (name, box) in enumerate(named)]
    return {"origin/a.jpg": PHOTO, "label.lst": "\n".join(lines).encode()}


def test_the_index_says_how_faces_were_cut_and_a_sheet_shows_what_was_refused(tmp_path: Path):
    boxes = ["a|20 10 50 40", "a|60 60 90 85", "a|-5 -5 40 40", "a|50 50 120 99"]
    files = expw([*boxes, "a|900 900 950 950", "z|0 0 50 50"])
    out = standardize(tmp_path, write_raw(tmp_path, files, zipped=False), EXPW)
    index = read_index(out)
    del index["shards"]
    assert index == {
        "faces": 4,
        "rows": 6,
        "rejects": {"box_outside": 1, "image_missing": 1},
        "crops": {"none": 0, "box": 4, "aligned": 0},
        "boxes_partly_outside": 2,
        "boxes_in_turned_photos": {"stored": 0, "turned": 0},
        "face_detector": None,
    }
    rows = [(reject["row"], reject["reason"]) for reject in read_rejects(out)]
    assert rows == [("label.lst:5", "box_outside"), ("label.lst:6", "image_missing")]
    # Two lines of tiles; in the first is the photo, with the edges marked beyond which the box is.
    sheet = decode((out / "rejects.png").read_bytes())
    photo, mark = ((sheet == colour).all(axis=2) for colour in ((90, 90, 90), (255, 0, 200)))
    assert photo.sum() > 96 * 96 / 2
    assert mark.sum() > 2 * 96
    assert np.argwhere(photo | mark)[:, 0].max() < len(sheet) / 2


# --- a source that stops, and says by example why --------------------------------------------------


def stop_of(folder: Path, files: dict[str, bytes], source: Source, *, max_share: float) -> str:
    out = standardize(folder, write_raw(folder, files, zipped=False), source, workers=0)
    with pytest.raises(UserError) as stop:
        check_source(out, name="x", max_reject_share=max_share)
    return str(stop.value)


FAULTY = {f"train/{n}/{n}.png": PHOTO for n in range(5)} | {"train/sad/b.png": b""}
SHOWN = [
    *([f"  train/{n}/{n}.png", "label_invalid"] for n in range(3)),
    ["  train/sad/b.png", "image_unreadable"],
]


def test_reported_a_source_without_faces_shows_rows_of_each_reason(tmp_path: Path):
    files = FAULTY | {"train/Contempt/a.png": PHOTO}
    first, *lines = stop_of(tmp_path, files, FOLDERS, max_share=1).splitlines()
    assert "source x: expected faces, got none; rejects: {'label_invalid': 5, " in first
    by_rule = ["  train/Contempt/a.png", "not_a_class"]
    assert [line.split(": ")[:2] for line in lines] == [*SHOWN, by_rule]
    assert "expected a folder named by a class, got '0'" in lines[0]


def test_reported_too_many_faults_show_rows_of_each_faulty_reason(tmp_path: Path):
    files = FAULTY | {"train/Contempt/a.png": PHOTO, "train/sad/c.png": PHOTO}
    first, *lines = stop_of(tmp_path, files, FOLDERS, max_share=0.74).splitlines()
    out = tmp_path / "standardized" / "x"
    check_source(out, name="x", max_reject_share=0.75)
    assert "source x: 75.0% of its rows are broken" in first
    assert f"look at rejects.csv and rejects.png in {out}" in first
    assert [line.split(": ")[:2] for line in lines] == SHOWN


def test_a_source_without_rows_says_so(tmp_path: Path):
    message = stop_of(tmp_path, {"FER2013Test/label.csv": b""}, FERPLUS, max_share=1)
    assert message.startswith("source x: expected faces, got none: its tables hold no")


def test_reported_a_name_twice_in_ferplus_pair_is_written_as_a_reject(tmp_path: Path):
    pixels = [" ".join([str(n)] * 48**2) for n in range(3)]
    votes = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    happy = "0,10,0,0,0,0,0,0,0,0"
    names = [f"Training,{n}.png,{happy}" for n in "abb"]
    tables = {
        "fer2013.csv": ["emotion,pixels,Usage", *(f"3,{p},Training" for p in pixels)],
        "fer2013new.csv": [f"Usage,Image name,{votes}", *names],
    }
    files = {name: "\n".join(lines).encode() for name, lines in tables.items()}
    out = standardize(tmp_path, write_raw(tmp_path, files, zipped=False), FERPLUS, workers=0)
    check_source(out, name="x", max_reject_share=0.5)
    (reject,) = read_rejects(out)
    assert (reject["row"], reject["reason"]) == ("fer2013new.csv:4", "row_repeated")
