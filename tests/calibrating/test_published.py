import json

import pandas as pd
import pytest

from stages.calibrating.published import read_teacher
from stages.records.folder import read_folder
from stages.runtime.errors import UserError
from tests.calibrating.run_folder import SEEN_AT_GATE, build_run_folder

FILES = ["teacher.json", "history.json", "logits.parquet"]


@pytest.fixture
def root(tmp_path):
    return build_run_folder(tmp_path, per_split=30)


def _read(root):
    manifest = read_folder(root / "manifests")
    return manifest, read_teacher(root / "models/stageA/RN18", manifest=manifest)


def _change_logits(root, change):
    path = root / "models/stageA/RN18/logits.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def test_logits_are_joined_by_id_and_not_by_position(root):
    manifest, before = _read(root)
    _change_logits(root, lambda frame: frame.sample(frac=1, random_state=1))
    _, after = _read(root)
    test = manifest.rows[manifest.rows["split"] == "test"]
    assert (before.logits_of(test) == after.logits_of(test)).all()
    assert before.seen(manifest.gates["gate"]).sum() == SEEN_AT_GATE
    assert not before.seen(test).any()


def test_scored_rows_are_val_and_test_and_each_gates_own(root):
    manifest, teacher = _read(root)
    scored = manifest.rows[manifest.rows["id"].isin(manifest.scored)]
    assert scored["split"].value_counts().to_dict() == {"val": 90, "test": 90, "train": 30}
    assert {name: len(rows) for name, rows in manifest.gates.items()} == {"gate": 90}
    assert teacher.filter.include_sources == ("ferplus", "rafdb_basic")


def test_missing_logits_are_an_error_for_all_rows_at_once(root):
    _change_logits(root, lambda frame: frame.iloc[3:])
    expected = (
        r"models/stageA/RN18/logits\.parquet: 3 rows have no logits, of \d+ .*expw_lq/test0000, "
    )
    with pytest.raises(UserError, match=expected):
        _read(root)


def test_unknown_repeated_and_infinite_logits_are_named_together(root):
    def spoil(frame):
        strange = frame.iloc[[0]].assign(id="ferplus/gone")
        infinite = frame.iloc[[5]].assign(logit_fear=float("inf"))
        return pd.concat([frame, strange, infinite], ignore_index=True)

    _change_logits(root, spoil)
    with pytest.raises(UserError) as caught:
        _read(root)
    lines = str(caught.value).splitlines()
    assert [line.split(": ", 1)[1].split(";")[0] for line in lines] == [
        "1 rows stand more than once",
        "1 rows are unknown to manifests/classification_manifest.csv",
        "1 rows hold logits that are not finite",
    ]


def test_teacher_of_another_manifest_is_refused(root):
    path = root / "models/stageA/RN18/teacher.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"manifest_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"RN18/teacher\.json: manifest_sha256: .*got 000000000000"):
        _read(root)


def test_another_class_order_is_refused(root):
    path = root / "models/stageA/RN18/teacher.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"classes": card["classes"][::-1]}))
    with pytest.raises(UserError, match=r"teacher\.json: classes: expected \['Angry'"):
        _read(root)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_names_the_command_that_makes_it(root, name):
    (root / "models/stageA/RN18" / name).unlink()
    with pytest.raises(UserError, match=rf"models/stageA/RN18/{name}.*`dvc repro stageA@RN18`"):
        _read(root)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer"),
        (b"", "an empty file"),
        (b"PAR1\xff\xfe", "6 bytes of no known kind"),
    ],
)
def test_reported_a_file_that_is_something_else_is_called_what_it_is(root, name, data, kind):
    (root / "models/stageA/RN18" / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        _read(root)
    message = str(caught.value)
    assert message.startswith(
        f"models/stageA/RN18/{name}: expected {name.split('.')[1]}, got {kind}"
    )
    assert message.endswith("`dvc repro stageA@RN18` makes it")
