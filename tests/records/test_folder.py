"""manifests/ is read whole and unchanged, or not at all."""

from pathlib import Path

import pandas as pd
import pytest
from shipped import shipped

from stages.config import Manifest, View
from stages.records.folder import ManifestFolder, read_folder
from stages.runtime.errors import UserError
from stages.splitting.frozen import freeze, publish

FILES = ["classification_manifest.csv", "gate.csv"]


@pytest.fixture
def folder(faces, one_of_each_class, tmp_path: Path) -> Path:
    section = shipped(
        Manifest,
        source_groups={"mine": ("zz",)},
        views={"gate": View(splits=("test",), gate=True), "plain": View(splits=("train",))},
    )
    frozen = freeze(faces(one_of_each_class), section=section, seed=1)
    publish(tmp_path / "manifests", frozen, warnings=pd.DataFrame(), section=section)
    return tmp_path / "manifests"


def test_rows_gates_and_groups(folder: Path) -> None:
    read = read_folder(folder)
    assert len(read.rows) == 9
    assert {name: rows["id"].tolist() for name, rows in read.gates.items()} == {"gate": ["zz/test"]}
    assert read.source_groups == {"mine": ["zz"]}


def test_scored_rows_are_val_test_and_gate_rows(rows) -> None:
    frame = rows({"id": f"s/{name}", "split": name} for name in ("test", "train", "val"))
    frame = pd.concat([frame, rows([{"id": "t/gate"}])], ignore_index=True)
    folder = ManifestFolder(frame, "", {"gate": frame[frame["id"] == "t/gate"]}, {})
    assert folder.scored.tolist() == ["s/test", "s/val", "t/gate"]


@pytest.mark.parametrize("name", ["index.json", *FILES])
def test_a_file_that_is_missing_or_cut_off_at_a_line_end_is_named(folder: Path, name: str) -> None:
    path = folder / name
    if name in FILES:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.raises(UserError, match=f"manifests/{name}: changed since it was written"):
            read_folder(folder)
    path.unlink()
    with pytest.raises(UserError, match=f"manifests/{name}: no such file"):
        read_folder(folder)
