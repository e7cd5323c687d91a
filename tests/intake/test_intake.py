"""Whole sources, damaged in every way that a seed can think of: every row ends somewhere."""

import csv
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from shipped import shipped

from stages.config import (
    ExpwSource,
    Fer2013Source,
    FerplusSource,
    Folder7Source,
    RafdbSource,
    Source,
)
from stages.faces.decode import decode, encode_png
from stages.faces.shards import read_faces, read_index
from stages.intake import intake
from stages.intake.intake import check_source, write_source
from stages.intake.picture import Framing
from stages.runtime.errors import UserError
from stages.sources.tree import open_tree

FRAMING = Framing(margin=0.3, max_side_px=64, detector=None)
NUM_TREES = 300


def noise(seed: int, side: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


PICTURES = [noise(seed, 48) for seed in range(8)]
PHOTOS = [noise(seed, 100) for seed in range(4)]
JPEG = cv2.imencode(".jpg", decode(PICTURES[0]))[1].tobytes()
GIF = cv2.imencode(".gif", decode(PICTURES[0])[:8, :8])[1].tobytes()


@dataclass
class Raw:
    """A raw dataset in memory; `tokens` are the lines of its table, for damage to single fields."""

    source: Source
    pictures: dict[str, bytes]
    table: str | None = None
    between: str = " "
    tokens: list[list[str]] = field(default_factory=list)

    def files(self, line_end: str) -> dict[str, bytes]:
        lines = "".join(self.between.join(line) + line_end for line in self.tokens)
        return self.pictures | ({} if self.table is None else {self.table: lines.encode()})


def expw() -> Raw:
    pictures = {f"origin/photo_{name}.jpg": PHOTOS[n] for n, name in enumerate("abcd")}
    boxes = [("a", 0, "20 10 50 40"), ("a", 1, "60 60 90 85"), ("b", 0, "5 5 60 60")]
    boxes += [("c", 0, "0 0 100 100"), ("d", 0, "-5 -5 40 40"), ("d", 1, "50 50 120 99")]
    lines = [f"photo_{name}.jpg {n} {box} 70.5 {n}".split() for name, n, box in boxes]
    return Raw(shipped(ExpwSource, format="expw", path="x"), pictures, "label.lst", " ", lines)


def ferplus() -> Raw:
    names = [f"fer{number:07d}.png" for number in range(6)]
    pictures = {f"FER2013Train/{name}": PICTURES[n] for n, name in enumerate(names)}
    votes = [["10" if place == n else "0" for place in range(10)] for n in range(6)]
    lines = [[name, '"(0, 0, 48, 48)"', *row] for name, row in zip(names, votes, strict=True)]
    source = shipped(FerplusSource, format="ferplus", path="x")
    return Raw(source, pictures, "FER2013Train/label.csv", ",", lines)


def rafdb() -> Raw:
    names = [f"{split}_{number:05d}" for split in ("train", "test") for number in range(3)]
    pictures = {f"Image/aligned/{name}_aligned.jpg": PICTURES[n] for n, name in enumerate(names)}
    lines = [[f"{name}.jpg", str(n + 1)] for n, name in enumerate(names)]
    table = "EmoLabel/list_patition_label.txt"
    return Raw(RafdbSource(format="rafdb_basic", path="x"), pictures, table, " ", lines)


def folder7() -> Raw:
    classes = ["Angry", "happiness", "Contempt", "odd"]
    pictures = {
        f"{split}/{name}/{n}.png": PICTURES[n]
        for n, (split, name) in enumerate((s, c) for s in ("train", "val") for c in classes)
    }
    return Raw(Folder7Source(format="folder7", path="x"), pictures)


LAYOUTS: list[Callable[[], Raw]] = [expw, ferplus, rafdb, folder7]
JUNK = ["", "x", "-1", "7", "999999", "nan", "1e9", "0.5", "é", "a b", "photo_a.jpg", "\t"]


def damage_picture(raw: Raw, rng: random.Random) -> None:
    if not raw.pictures:
        return
    name = rng.choice(sorted(raw.pictures))
    data = raw.pictures[name]
    place = rng.randrange(len(data)) if data else 0
    flipped = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    raw.pictures[name] = rng.choice(
        [b"", data[:place], flipped, data + b"junk", rng.randbytes(99), b"<html>", JPEG, GIF,
         noise(1, 1), data * 2, JPEG[: len(JPEG) // 2]]
    )  # fmt: skip


def move_picture(raw: Raw, rng: random.Random) -> None:
    if not raw.pictures:
        return
    name = rng.choice(sorted(raw.pictures))
    data = raw.pictures.pop(name)
    folder, _, file = name.rpartition("/")
    for new in rng.choice([[], [f"{folder}/stray.png"], [name, f"{folder}/copy_{file}"],
                           [f"{folder}/{file.upper()}"], [f"{folder}/deep/{file}"]]):  # fmt: skip
        raw.pictures[new] = data


def damage_line(raw: Raw, rng: random.Random) -> None:
    if not raw.tokens:
        return
    place = rng.randrange(len(raw.tokens))
    line = raw.tokens[place]
    changed = list(line)
    if changed:
        changed[rng.randrange(len(changed))] = rng.choice(JUNK)
    raw.tokens[place : place + 1] = rng.choice(
        [[], [line, line], [changed], [changed], [changed], [line, changed],
         [line[: rng.randrange(len(line) + 1)]], [[*line, "x"]], [[], line]]
    )  # fmt: skip


def damaged(seed: int) -> tuple[Raw, dict[str, bytes]]:
    rng = random.Random(seed)
    raw = rng.choice(LAYOUTS)()
    for _ in range(rng.randint(1, 6)):
        rng.choice([damage_picture, move_picture, damage_line])(raw, rng)
    return raw, raw.files(rng.choice(["\n", "\r\n"]))


def write_raw(folder: Path, files: dict[str, bytes], *, zipped: bool) -> Path:
    if zipped:
        path = folder / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    for name, data in files.items():
        path = folder / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "x"


def break_a_member(archive: Path, files: dict[str, bytes], rng: random.Random) -> None:
    """Change a byte of a picture in a zip, whose checksum is then wrong."""
    pictures = sorted(data for name, data in files.items() if len(data) > 500)
    if pictures:
        whole = rng.choice(pictures)
        place = rng.randrange(len(whole))
        broken = whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        archive.write_bytes(archive.read_bytes().replace(whole, broken, 1))


def standardize(folder: Path, raw: Path, source: Source, *, workers: int = 2) -> Path:
    out = folder / "standardized" / "x"
    out.mkdir(parents=True)
    with open_tree(raw, key="standardize.sources.x.path") as tree:
        write_source(
            out, tree, name="x", source=source, framing=FRAMING, shard_mb=1, workers=workers
        )
    return out


def rejects_of(out: Path) -> list[dict[str, str]]:
    with (out / "rejects.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mentioned(raw: Raw, picture: str) -> bool:
    """Whether a line of the table could mean the picture."""
    stem = Path(picture).name.split(".")[0].lower().removesuffix("_aligned")
    return any(stem in raw.between.join(line).lower() for line in raw.tokens)


def expect_every_row(raw: Raw, out: Path) -> None:
    faces, rejects = read_faces(out.parent, ["id", "width", "raw"]), rejects_of(out)
    if raw.table is None:
        num_rows = len(raw.pictures)
    else:
        # A row is a line that is not blank, or a picture that no line means.
        num_rows = sum(any(token.strip() for token in line) for line in raw.tokens)
        alone = [r["row"] for r in rejects if not r["row"].startswith(f"{raw.table}:")]
        assert len(set(alone)) == len(alone)
        unmentioned = {name for name in raw.pictures if not mentioned(raw, name)}
        assert unmentioned <= set(alone) <= set(raw.pictures)
        num_rows += len(alone)
    assert len(faces) + len(rejects) == num_rows
    assert faces["id"].is_unique
    assert len({reject["row"] for reject in rejects}) == len(rejects)
    index = read_index(out)
    assert (index["faces"], index["rows"]) == (len(faces), num_rows)
    assert index["rejects"] == Counter(reject["reason"] for reject in rejects)
    assert sum(index["crops"].values()) == len(faces)
    decode((out / "rejects.png").read_bytes())


def test_of_a_damaged_source_every_row_is_a_face_or_a_reject(tmp_path: Path):
    reasons: Counter[str] = Counter()
    stopped = 0
    for seed in range(NUM_TREES):
        raw, files = damaged(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = write_raw(folder, files, zipped=seed % 2 == 0)
        if seed % 4 == 0:
            break_a_member(path, files, random.Random(seed))
        try:
            out = standardize(folder, path, raw.source)
        except UserError:
            stopped += 1
            continue
        expect_every_row(raw, out)
        reasons.update(read_index(out)["rejects"])
    assert stopped < NUM_TREES / 10
    assert {"image_unreadable", "image_missing", "label_missing", "label_invalid"} <= set(reasons)
    assert {"row_malformed", "box_outside", "box_empty", "not_a_class"} <= set(reasons)


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_sources_give_the_same_bytes_with_any_number_of_workers(
    tmp_path: Path, layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(intake, "_FEW_ROWS", 0)
    monkeypatch.setattr(intake, "_BATCH_ROWS", 2)
    raw, rng = layout(), random.Random(1)
    for _ in range(4):
        rng.choice([damage_picture, damage_line])(raw, rng)
    path = write_raw(tmp_path, raw.files("\n"), zipped=True)
    outs = [
        bytes_of(standardize(tmp_path / str(workers), path, raw.source, workers=workers))
        for workers in (0, 1, 2)
    ]
    assert outs[0] == outs[1] == outs[2]


def test_the_index_says_how_faces_were_cut_and_what_was_refused(tmp_path: Path):
    raw = expw()
    raw.tokens.append("photo_a.jpg 2 900 900 950 950 50 1".split())
    raw.tokens.append("photo_z.jpg 0 0 0 50 50 50 1".split())
    index = read_index(
        standardize(tmp_path, write_raw(tmp_path, raw.files("\n"), zipped=False), raw.source)
    )
    del index["shards"]
    assert index == {
        "faces": 6,
        "rows": 8,
        "rejects": {"box_outside": 1, "image_missing": 1},
        "crops": {"none": 0, "box": 6, "aligned": 0},
        "boxes_partly_outside": 2,
        "boxes_in_turned_photos": {"stored": 0, "turned": 0},
        "face_detector": None,
    }


def test_a_member_with_a_wrong_checksum_is_a_reject(tmp_path: Path):
    raw = folder7()
    path = write_raw(tmp_path, raw.files("\n"), zipped=True)
    face = {"train/Angry/0.png": raw.pictures["train/Angry/0.png"]}
    break_a_member(path, face, random.Random(0))
    out = standardize(tmp_path, path, raw.source)
    expect_every_row(raw, out)
    assert read_index(out)["rejects"]["image_unreadable"] == 1
    assert "BadZipFile" in (out / "rejects.csv").read_text(encoding="utf-8")


def test_reasons_stand_by_their_number(tmp_path: Path):
    raw = folder7()
    raw.pictures["train/Angry/broken.png"] = b""
    out = standardize(tmp_path, write_raw(tmp_path, raw.files("\n"), zipped=False), raw.source)
    assert list(read_index(out)["rejects"].items()) == [
        ("label_invalid", 2), ("not_a_class", 2), ("image_unreadable", 1),
    ]  # fmt: skip


def test_pictures_out_of_a_table_become_faces(tmp_path: Path):
    pixels = " ".join(["0", "255"] * (48 * 24))
    table = f"emotion,pixels,Usage\n3,{pixels},Training\n4,{pixels[:-3]},Training\n"
    path = write_raw(tmp_path, {"fer2013.csv": table.encode()}, zipped=True)
    out = standardize(tmp_path, path, Fer2013Source(format="fer2013", path="x.zip"))
    faces = pd.read_feather(out / "faces-00000.arrow")
    assert faces["label"].tolist() == ["Happy"]
    assert decode(faces["image"][0]).shape == (48, 48, 3)
    assert [r["row"] for r in rejects_of(out)] == ["fer2013.csv:3"]


def test_too_many_faults_are_named_with_the_folder_to_look_at(tmp_path: Path):
    raw = expw()
    raw.tokens += [f"photo_a.jpg {n} 900 900 950 95{n} 50 1".split() for n in range(2, 7)]
    out = standardize(
        tmp_path, write_raw(tmp_path, raw.files("\n"), zipped=False), raw.source, workers=0
    )
    check_source(out, name="x", max_reject_share=0.5)
    with pytest.raises(UserError) as stop:
        check_source(out, name="x", max_reject_share=0.4)
    message = str(stop.value)
    assert "source x: 45.5% of its rows are broken" in message
    assert f"look at rejects.csv and rejects.png in {out}" in message
    assert message.count("in a photo of 100 x 100 px") == 3
    assert "label.lst:7: box_outside: origin/photo_a.jpg: box (900, 900, 950, 952)" in message
