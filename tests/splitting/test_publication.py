import json
from pathlib import Path

import pandas as pd
import pytest

from stages.config import Manifest, View
from stages.records.schema import read_manifest
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.splitting.frozen import freeze, publish
from stages.survey.data_warnings import DataWarning, as_table

SECTION = Manifest(
    source_groups={"mine": ("zz",)},
    views={"gates": View(gate=True, splits=("test",)), "train": View(splits=("train",))},
)
WARNINGS = as_table([DataWarning("few_rows", "zz test", "too few, they say")])


def test_the_folder(faces, one_of_each_class, tmp_path: Path) -> None:
    copy = {"id": "s/1", "split": "train", "sha256": "0" * 64}
    build = faces([*one_of_each_class, copy, copy | {"id": "s/2", "split": "test"}])
    frozen = freeze(build, section=SECTION, seed=1)
    target = tmp_path / "manifests"
    target.mkdir()
    (target / "stale.csv").touch()
    entries = publish(target, frozen, warnings=WARNINGS, section=SECTION)
    names = {
        "classification_manifest.csv",
        "gates.csv",
        "train.csv",
        "excluded.csv",
        "duplicates.csv",
        "review.csv",
        "warnings.csv",
    }
    assert {path.name for path in target.iterdir()} == names | {"index.json"}
    index = json.loads((target / "index.json").read_text())
    assert index == {"source_groups": {"mine": ["zz"]}, "files": entries}
    for name, entry in entries.items():
        assert entry["sha256"] == sha256_file(target / name)
        assert entry["rows"] == len(pd.read_csv(target / name))
        assert entry["gate"] == (name == "gates.csv")
    pd.testing.assert_frame_equal(
        read_manifest(target / "classification_manifest.csv"), frozen.rows
    )
    assert (target / "excluded.csv").read_text() == (
        "id,source,label,split,reason,detail\ns/1,s,Happy,train,twin_in_test,s/2\n"
    )
    assert (target / "duplicates.csv").read_text() == (
        "id_a,id_b,group,kind,mirrored,correlation,same_label,split_a,split_b\n"
        "s/1,s/2,s/1,exact,false,1.0,true,train,test\n"
    )
    assert (target / "review.csv").read_text().count("\n") == 1
    assert (target / "warnings.csv").read_text() == (
        'code,where,message\nfew_rows,zz test,"too few, they say"\n'
    )


def test_what_existed_survives_a_failure(faces, one_of_each_class, tmp_path: Path) -> None:
    target = tmp_path / "manifests"
    frozen = freeze(faces(one_of_each_class), section=SECTION, seed=1)
    publish(target, frozen, warnings=WARNINGS, section=SECTION)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    broken = freeze(
        faces([*one_of_each_class, {"id": "s/1", "sha256": "?"}]), section=SECTION, seed=1
    )
    with pytest.raises(UserError, match=r"classification_manifest\.csv: line 2: sha256"):
        publish(target, broken, warnings=WARNINGS, section=SECTION)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["manifests"]
