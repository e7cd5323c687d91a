"""manifests/ is read whole and unchanged, or not at all."""

from pathlib import Path

import pytest
from shipped import shipped

from stages.config import Manifest, View
from stages.records.folder import read_folder
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.splitting.frozen import freeze
from stages.splitting.publication import publish
from stages.survey.data_warnings import as_table


@pytest.fixture
def folder(faces, one_of_each_class, tmp_path: Path) -> Path:
    section = shipped(
        Manifest,
        source_groups={"mine": ("zz",)},
        views={"gate": View(splits=("test",), gate=True), "plain": View(splits=("train",))},
    )
    frozen = freeze(faces(one_of_each_class), section=section, seed=1)
    publish(tmp_path / "manifests", frozen, warnings=as_table([]), section=section)
    return tmp_path / "manifests"


def test_rows_gates_and_groups(folder: Path) -> None:
    read = read_folder(folder)
    assert len(read.rows) == 9
    assert read.sha256 == sha256_file(folder / "classification_manifest.csv")
    assert {name: rows["id"].tolist() for name, rows in read.gates.items()} == {"gate": ["zz/test"]}
    assert read.source_groups == {"mine": ["zz"]}


@pytest.mark.parametrize("name", ["classification_manifest.csv", "gate.csv"])
def test_a_file_cut_off_at_a_line_end_is_noticed(folder: Path, name: str) -> None:
    path = folder / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(UserError, match=f"manifests/{name}: changed since it was written"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["index.json", "classification_manifest.csv", "gate.csv"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"manifests/{name}: no such file"):
        read_folder(folder)
