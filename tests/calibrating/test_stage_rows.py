import pandas as pd
import pytest

from stages.calibrating.published import Manifest
from stages.calibrating.stage_rows import stage_rows
from stages.config import Filter
from stages.runtime.errors import UserError


def _manifest(gate_ids):
    rows = pd.DataFrame(
        [
            (f"{source}/{split}{n}", source, split, px, f"{source}{split}{n}")
            for source, px in (("a", 100), ("b", 30), ("gate", 60))
            for split in ("train", "val", "test")
            for n in range(2)
        ],
        columns=["id", "source", "split", "native_px", "group"],
    ).assign(confidence=float("nan"), label="Happy")
    gate = rows[rows["id"].isin(gate_ids)]
    return Manifest("0" * 64, rows, {"g": gate}, {})


def _rows(manifest, *, started_from=None, **rows):
    earlier = {"stageA": Filter(**started_from)} if started_from is not None else {}
    return stage_rows(manifest, rows=Filter(**rows), stage="stageB", started_from=earlier)


def _ids(account):
    return account.rows["id"].tolist()


def test_only_rows_that_the_stage_s_own_filter_admits_are_in_domain():
    manifest = _manifest([])
    found = _rows(manifest, exclude_sources=("gate",), min_native_px=64)
    assert _ids(found.test) == ["a/test0", "a/test1"]
    assert _ids(found.val) == ["a/val0", "a/val1"]


def test_max_per_class_thins_training_and_nothing_else():
    manifest = _manifest([])
    assert len(_ids(_rows(manifest, max_per_class=1).test)) == 6


def test_val_row_that_the_stage_admits_stays_in_val_and_leaves_the_gate():
    manifest = _manifest(["a/val0", "gate/val0", "gate/test1"])
    found = _rows(manifest)
    assert {"a/val0", "gate/val0"} <= set(_ids(found.val))
    assert found.val.left_out == {}
    assert _ids(found.gates["g"]) == ["gate/test1"]


def test_incident_N4_gate_rows_that_the_filter_admits_are_known_to_be_in_domain():
    manifest = _manifest(["a/test0", "gate/test1"])
    found = _rows(manifest, include_sources=("a",))
    assert set(_ids(found.gates["g"])) & found.admitted == {"a/test0"}


def test_gate_leaves_out_rows_of_the_stage_s_val_and_keeps_val_rows_of_others():
    manifest = _manifest(["a/val0", "gate/val0", "gate/train0"])
    found = _rows(manifest, include_sources=("a",))
    assert _ids(found.gates["g"]) == ["gate/train0", "gate/val0"]
    assert list(found.gates["g"].left_out.values()) == [1]


def test_val_rows_that_chose_the_weights_a_stage_started_from_leave_its_gates():
    manifest = _manifest(["a/val0", "b/val0", "b/val1", "gate/val0", "b/test0"])
    found = _rows(manifest, include_sources=("a",), started_from={"include_sources": ("a", "b")})
    assert _ids(found.gates["g"]) == ["b/test0", "gate/val0"]
    assert found.gates["g"].left_out == {
        "the row or a copy of it is in val of stageB, which chose its weights": 1,
        "the row or a copy of it is in val of stageA, which chose the weights that stageB started "
        "from": 2,
    }
    assert _ids(found.val) == ["a/val0", "a/val1"]


def test_val_rows_of_a_stage_that_it_did_not_start_from_stay_at_the_gates():
    manifest = _manifest(["a/val0", "b/val0", "gate/val0"])
    found = _rows(manifest, include_sources=("a",))
    assert _ids(found.gates["g"]) == ["b/val0", "gate/val0"]


def test_copy_of_a_val_row_of_the_stage_before_leaves_the_gate_too():
    manifest = _manifest(["gate/test0", "gate/test1"])
    copied = manifest.gates["g"].assign(group=["bval0", "gatetest1"])
    found = _rows(
        Manifest("0" * 64, manifest.rows, {"g": copied}, {}),
        include_sources=("a",),
        started_from={"include_sources": ("b",)},
    )
    assert _ids(found.gates["g"]) == ["gate/test1"]


def test_copy_of_a_val_row_leaves_the_gate_too():
    manifest = _manifest(["gate/test0", "gate/test1"])
    rows = manifest.rows.assign(
        group=manifest.rows["group"].mask(manifest.rows["id"] == "gate/test1", "aval0")
    )
    gates = {"g": rows[rows["id"].isin(["gate/test0", "gate/test1"])]}
    found = _rows(Manifest("0" * 64, rows, gates, {}), include_sources=("a",))
    assert _ids(found.gates["g"]) == ["gate/test0"]


def test_unknown_source_names_the_filter():
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows of source 'x'"):
        _rows(_manifest([]), include_sources=("x",))
