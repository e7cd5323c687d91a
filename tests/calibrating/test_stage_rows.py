import dataclasses
import json
import shutil

import pandas as pd
import pytest

from stages.calibrating.published import read_teacher
from stages.calibrating.stage_rows import find_past, rows_of, stage_rows
from stages.config import Filter
from stages.records.folder import ManifestFolder, read_folder
from stages.runtime.errors import UserError
from tests.calibrating.run_folder import start_from_stage_a


def _manifest(gate_ids=(), groups=None):
    """Rows of three sources; `groups` gives some rows the group of another."""
    rows = pd.DataFrame(
        [
            (f"{source}/{split}{n}", source, split, px, f"{source}/{split}{n}")
            for source, px in (("a", 100), ("b", 30), ("gate", 60))
            for split in ("train", "val", "test")
            for n in range(2)
        ],
        columns=["id", "source", "split", "native_px", "group"],
    ).assign(confidence=float("nan"), label="Happy")
    rows["group"] = rows["group"].replace(groups or {})
    gate = rows[rows["id"].isin(gate_ids)]
    return ManifestFolder(rows, "0" * 64, {"g": gate}, {})


def _rows(manifest, *, started_from=None, **rows):
    earlier = {"stageA": Filter(**started_from)} if started_from is not None else {}
    return stage_rows(manifest, rows=Filter(**rows), stage="stageB", started_from=earlier)


def _ids(kept):
    return kept.frame["id"].tolist()


def test_only_rows_that_the_stage_s_own_filter_admits_are_in_domain():
    found = _rows(_manifest(), exclude_sources=("gate",), min_native_px=64)
    assert _ids(found.test) == ["a/test0", "a/test1"]
    assert _ids(found.val) == ["a/val0", "a/val1"]


def test_max_per_class_thins_training_and_nothing_else():
    assert len(_ids(_rows(_manifest(), max_per_class=1).test)) == 6


def test_val_row_that_the_stage_admits_stays_in_val_and_leaves_the_gate():
    found = _rows(_manifest(["a/val0", "gate/val0", "gate/test1"]))
    assert {"a/val0", "gate/val0"} <= set(_ids(found.val))
    assert found.val.left_out == {}
    assert _ids(found.gates["g"]) == ["gate/test1"]


def test_incident_N4_gate_rows_that_the_filter_admits_are_known_to_be_in_domain():
    found = _rows(_manifest(["a/test0", "gate/test1"]), include_sources=("a",))
    assert set(_ids(found.gates["g"])) & found.admitted == {"a/test0"}


@pytest.mark.parametrize(
    ("gate", "groups", "started_from", "kept"),
    [
        # Val rows of other sources and train rows stay.
        (["a/val0", "gate/val0", "gate/train0"], {}, None, ["gate/train0", "gate/val0"]),
        # A copy of a val row leaves too.
        (["gate/test0", "gate/test1"], {"gate/test1": "a/val0"}, None, ["gate/test0"]),
        # Val rows of a stage that it did not start from stay.
        (["a/val0", "b/val0", "gate/val0"], {}, None, ["b/val0", "gate/val0"]),
        # Those that chose the weights that it started from leave, and so do their copies.
        (["a/val0", "b/val0", "gate/val0", "b/test0"], {}, ("a", "b"), ["b/test0", "gate/val0"]),
        (["gate/test0", "gate/test1"], {"gate/test0": "b/val0"}, ("b",), ["gate/test1"]),
    ],
)
def test_rows_that_chose_the_weights_leave_the_gate(gate, groups, started_from, kept):
    start = None if started_from is None else {"include_sources": started_from}
    manifest = _manifest(gate, groups)
    found = _rows(manifest, include_sources=("a",), started_from=start)
    assert _ids(found.gates["g"]) == kept
    assert sum(found.gates["g"].left_out.values()) == len(gate) - len(kept)
    assert _ids(found.val) == ["a/val0", "a/val1"]


def test_rows_that_leave_a_gate_are_counted_by_reason():
    manifest = _manifest(["a/val0", "b/val0", "b/val1"])
    found = _rows(manifest, include_sources=("a",), started_from={"include_sources": ("a", "b")})
    assert found.gates["g"].left_out == {
        "the row or a copy of it is in val of stageB, which chose its weights": 1,
        "the row or a copy of it is in val of stageA, which chose the weights that stageB started "
        "from": 2,
    }


def test_unknown_source_names_the_filter():
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows of source 'x'"):
        _rows(_manifest(), include_sources=("x",))


@pytest.fixture
def started(run_folder, tmp_path):
    """A project whose teachers of stage B started from those of stage A."""
    shutil.copytree(run_folder, tmp_path / "run")
    for name in ("RN18", "B3"):
        start_from_stage_a(tmp_path / "run", name)
    return tmp_path / "run"


def _read(root, names=("RN18", "B3")):
    manifest = read_folder(root / "manifests")
    folders = [root / "models/stageB" / name for name in names]
    return manifest, [read_teacher(folder, manifest=manifest) for folder in folders]


def test_gates_leave_out_val_of_the_stage_before_only_if_the_teachers_started_from_it(
    started, read
):
    manifest, teachers = read
    val = manifest.rows[manifest.rows["split"] == "val"]
    manifest = dataclasses.replace(manifest, gates={"g": val[val["source"] == "ferplus"]})
    after = rows_of(_read(started)[1], models=started / "models", manifest=manifest)
    anew = rows_of(teachers["stageB"], models=started / "models", manifest=manifest)
    assert list(after.gates["g"].left_out.values()) == [0, 120]
    assert after.gates["g"].frame.empty
    assert len(anew.gates["g"].frame) == 120


def test_teacher_whose_first_weights_are_not_there_any_more_is_refused(started):
    manifest, teachers = _read(started)
    card = started / "models/stageA/B3/teacher.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"weights_sha256": "9" * 64}))
    with pytest.raises(UserError) as error:
        rows_of(teachers, models=started / "models", manifest=manifest)
    start = teachers[1].started_from.weights_sha256[:12]
    assert str(error.value) == (
        "models/stageB/B3/teacher.json: started_from: expected the weights of models/stageA/B3, "
        f"999999999999…, got {start}…; run `dvc repro stageB@B3`"
    )
    past = find_past([teachers[1].weights_sha256], models=started / "models", manifest=manifest)
    assert past.unknown == f"no teacher below models/ has the weights {start}…"
    card.unlink()
    with pytest.raises(UserError, match=r"stageA/B3/teacher\.json: expected a file, found none"):
        rows_of(teachers, models=started / "models", manifest=manifest)


def test_teacher_that_says_it_started_from_its_own_stage_is_refused(started):
    manifest, (teacher, _) = _read(started)
    start = teacher.started_from.model_copy(update={"stage": "stageB"})
    with pytest.raises(UserError, match=r"expected a stage before stageB, got stageB"):
        rows_of(
            [dataclasses.replace(teacher, started_from=start)],
            models=started / "models",
            manifest=manifest,
        )


def test_teachers_of_one_stage_with_unlike_filters_are_refused(run_study, read):
    _, teachers = read
    mixed = {"stageA": [teachers["stageA"][0], teachers["stageB"][1]]}
    with pytest.raises(UserError, match=r"models/stageA: .*RN18 and B3 were trained on other rows"):
        run_study(mixed)


def test_past_of_weights_is_that_of_every_folder_and_of_what_they_started_from(started):
    """0 epochs pass the weights of stage A through."""
    manifest, _ = _read(started)
    card = started / "models/stageB/RN18/teacher.json"
    first = json.loads((started / "models/stageA/RN18/teacher.json").read_text())
    passed = json.loads(card.read_text()) | {"weights_sha256": first["weights_sha256"]}
    card.write_text(json.dumps(passed))
    past = find_past([first["weights_sha256"]], models=started / "models", manifest=manifest)
    rows = manifest.rows
    for split, pictures in (("train", past.trained), ("val", past.val)):
        is_known = (rows["split"] == split) & rows["source"].isin(["ferplus", "rafdb_basic"])
        assert set(rows.loc[is_known, "id"]) == pictures.ids
    assert past.unknown == ""
