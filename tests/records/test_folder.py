"""manifests/ is read whole and unchanged, or not at all."""

from pathlib import Path

import pandas as pd
import pytest
from shipped import shipped

from stages.config import Manifest, View
from stages.records.folder import read_folder
from stages.runtime.errors import UserError
from stages.splitting.frozen import freeze, publish

FILES = ["classification_manifest.csv", "gate.csv"]


@pytest.fixture
def folder(faces, one_of_each_class, tmp_path: Path) -> Path:
    views = {"gate": View(min_native_px=50, gate=True), "plain": View(splits=("train",))}
    section = shipped(Manifest, source_groups={"mine": ("zz",)}, views=views)
    large = {"id": "zz/large", "split": "train", "native_px": 50}
    frozen = freeze(faces([*one_of_each_class, large]), section=section, seed=1)
    publish(tmp_path / "manifests", frozen, warnings=pd.DataFrame(), section=section)
    return tmp_path / "manifests"


def test_rows_gates_groups_and_the_rows_that_are_scored(folder: Path) -> None:
    read = read_folder(folder)
    assert len(read.rows) == 10
    assert {name: list(gate["id"]) for name, gate in read.gates.items()} == {"gate": ["zz/large"]}
    assert read.source_groups == {"mine": ["zz"]}
    assert list(read.scored) == ["zz/large", "zz/test", "zz/val"]


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
