"""A source without faces stops, and says by example why."""

from pathlib import Path

import numpy as np
import pytest
from shipped import shipped

from stages.config import FerplusSource, Folder7Source, Source
from stages.faces.decode import encode_png
from stages.intake.intake import check_source, write_source
from stages.intake.picture import Framing
from stages.intake.rejects import read_rejects
from stages.runtime.errors import UserError
from stages.sources.tree import open_tree

FRAMING = Framing(margin=0.3, max_side_px=64, detector=None)
PICTURE = encode_png(np.zeros((48, 48, 3), np.uint8))
FOLDERS = Folder7Source(format="folder7", path="x")


def standardized(folder: Path, files: dict[str, bytes | str], *, source: Source) -> Path:
    for name, content in files.items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    out = folder / "out"
    out.mkdir()
    with open_tree(folder / "raw", key="k") as tree:
        write_source(out, tree, name="x", source=source, framing=FRAMING, shard_mb=1, workers=0)
    return out


def test_reported_a_source_without_faces_shows_rows_of_each_reason(tmp_path: Path):
    files = {f"train/{n}/{n}.png": PICTURE for n in range(5)} | {"train/Contempt/a.png": PICTURE}
    out = standardized(tmp_path, files | {"train/sad/b.png": b""}, source=FOLDERS)
    with pytest.raises(UserError) as stop:
        check_source(out, name="x", max_reject_share=1)
    first, *lines = str(stop.value).splitlines()
    assert "source x: expected faces, got none; rejects: {'label_invalid': 5, " in first
    assert [line.split(": ")[:2] for line in lines] == [
        ["  train/0/0.png", "label_invalid"],
        ["  train/1/1.png", "label_invalid"],
        ["  train/2/2.png", "label_invalid"],
        ["  train/sad/b.png", "image_unreadable"],
        ["  train/Contempt/a.png", "not_a_class"],
    ]
    assert "expected a folder named by a class, got '0'" in lines[0]


def test_reported_too_many_faults_show_rows_of_each_faulty_reason(tmp_path: Path):
    files = {f"train/{n}/{n}.png": PICTURE for n in range(3)} | {"train/Contempt/a.png": PICTURE}
    files |= {"train/sad/b.png": b"", "train/sad/c.png": PICTURE}
    out = standardized(tmp_path, files, source=FOLDERS)
    with pytest.raises(UserError) as stop:
        check_source(out, name="x", max_reject_share=0)
    reasons = [line.split(": ")[1] for line in str(stop.value).splitlines()[1:]]
    assert reasons == ["label_invalid"] * 3 + ["image_unreadable"]


def test_a_source_without_rows_says_so(tmp_path: Path):
    out = standardized(
        tmp_path,
        {"FER2013Test/label.csv": ""},
        source=shipped(FerplusSource, format="ferplus", path="x"),
    )
    with pytest.raises(UserError, match=r"source x: expected faces, got none: its tables hold no"):
        check_source(out, name="x", max_reject_share=1)


def test_reported_a_name_twice_in_ferplus_pair_is_written_as_a_reject(tmp_path: Path):
    pixels = [" ".join([str(n)] * 48**2) for n in range(3)]
    names = ["neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    happy = "0,10,0,0,0,0,0,0,0,0"
    files = {
        "fer2013.csv": "\n".join(["emotion,pixels,Usage", *(f"3,{p},Training" for p in pixels)]),
        "fer2013new.csv": "\n".join(
            [f"Usage,Image name,{names[0]}", *(f"Training,{n}.png,{happy}" for n in "abb")]
        ),
    }
    source = shipped(FerplusSource, format="ferplus", path="x")
    out = standardized(tmp_path, files, source=source)
    check_source(out, name="x", max_reject_share=0.5)
    assert [(row["row"], row["reason"]) for row in read_rejects(out)] == [
        ("fer2013new.csv:4", "row_repeated")
    ]
