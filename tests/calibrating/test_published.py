import dataclasses
import json
import shutil

import pandas as pd
import pytest

from stages.calibrating.published import find_past, read_teacher, rows_of, stage_rows
from stages.config import Filter
from stages.records.folder import ManifestFolder, read_folder
from stages.runtime.errors import UserError
from tests.calibrating.run_folder import start_from_stage_a

FILES = ("teacher.json", "history.json", "logits.parquet")
FOREIGN = {
    b"version https://git-lfs.github.com/spec/v1\n": "a git-LFS pointer",
    b"": "an empty file",
    b"PAR1\xff\xfe": "6 bytes of no known kind",
}


def _spoil(logits):
    """Rows that are gone, unknown, twice there and infinite."""
    strange = logits.iloc[[5]].assign(id="ferplus/gone")
    infinite = logits.iloc[[6]].assign(logit_fear=float("inf"))
    return pd.concat([logits.iloc[3:], strange, infinite])


def _table(change):
    def spoil(folder):
        path = folder / "logits.parquet"
        change(pd.read_parquet(path)).to_parquet(path, index=False)

    return spoil


def _card(**changes):
    def spoil(folder):
        path = folder / "teacher.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


@pytest.fixture
def read_spoilt(run_folder, read, tmp_path):
    """Read a copy of a teacher in which something was changed."""

    def spoil(change):
        folder = tmp_path / "models/stageA/RN18"
        shutil.copytree(run_folder / "models/stageA/RN18", folder)
        change(folder)
        return read_teacher(folder, manifest=read[0])

    return spoil


def test_logits_are_joined_by_id_and_not_by_position(read, read_spoilt):
    manifest, teachers = read
    test = manifest.rows[manifest.rows["split"] == "test"]
    shuffled = read_spoilt(_table(lambda logits: logits.sample(frac=1, random_state=1)))
    assert (teachers["stageA"][0].logits_of(test) == shuffled.logits_of(test)).all()


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (_card(manifest_sha256="0" * 64), ["teacher.json: manifest_sha256: .*got 000000000000…"]),
        (_card(classes=list("abcdefg")), [r"teacher.json: classes: expected \['Angry'.*'a'"]),
        (_table(lambda logits: logits.drop(columns="seen")), ["logits.parquet: columns: expected"]),
        (
            _table(_spoil),
            [
                "logits.parquet: 1 rows stand more than once",
                "logits.parquet: 3 rows have no logits, of 840 .*: expw_lq/test0000, ",
                "logits.parquet: 1 rows are unknown to manifests/.*: ferplus/gone",
                "logits.parquet: 1 rows hold logits that are not finite",
            ],
        ),
        *(
            (lambda folder, name=name: (folder / name).unlink(), [f"{name}: .*`dvc repro stageA@"])
            for name in FILES
        ),
    ],
)
def test_teacher_that_does_not_belong_or_is_not_whole_is_refused(read_spoilt, change, problems):
    with pytest.raises(UserError) as error:
        read_spoilt(change)
    lines = str(error.value).splitlines()
    for line, problem in zip(lines, problems, strict=True):
        assert pd.Series([line]).str.match(f"models/stageA/RN18/{problem}").all(), line


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("data", "kind"), FOREIGN.items(), ids=FOREIGN.values())
def test_reported_a_file_that_is_something_else_is_called_what_it_is(read_spoilt, name, data, kind):
    expected = rf"^models/stageA/RN18/{name}: expected {name.split('.')[1]}, got {kind}"
    with pytest.raises(UserError, match=rf"{expected}.*`dvc repro stageA@RN18` makes it$"):
        read_spoilt(lambda folder: (folder / name).write_bytes(data))


def _rows(gate=(), groups=None, *, started_from=None, **rows):
    """Rows of three sources; `groups` gives some rows the group of another."""
    frame = pd.DataFrame(
        [
            (f"{source}/{split}{n}", source, split, px, f"{source}/{split}{n}")
            for source, px in (("a", 100), ("b", 30), ("gate", 60))
            for split in ("train", "val", "test")
            for n in range(2)
        ],
        columns=["id", "source", "split", "native_px", "group"],
    ).assign(confidence=float("nan"), label="Happy")
    frame["group"] = frame["group"].replace(groups or {})
    manifest = ManifestFolder(frame, "0" * 64, {"g": frame[frame["id"].isin(gate)]}, {})
    earlier = {"stageA": Filter(include_sources=started_from)} if started_from else {}
    return stage_rows(manifest, rows=Filter(**rows), stage="stageB", started_from=earlier)


def _ids(kept):
    return kept.frame["id"].tolist()


def test_only_rows_that_the_stage_s_own_filter_admits_are_in_domain():
    rows = _rows(exclude_sources=("gate",), min_native_px=64, max_per_class=1)
    assert _ids(rows.places["test"]) == ["a/test0", "a/test1"]
    assert _ids(rows.val) == ["a/val0", "a/val1"]
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows of source 'x'"):
        _rows(include_sources=("x",))


def test_incident_N4_gate_rows_that_the_filter_admits_are_known_to_be_in_domain():
    rows = _rows(["a/test0", "gate/test1"], include_sources=("a",))
    assert set(_ids(rows.places["gate:g"])) & rows.admitted == {"a/test0"}


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
    rows = _rows(gate, groups, include_sources=("a",), started_from=started_from)
    assert _ids(rows.places["gate:g"]) == kept
    assert _ids(rows.val) == ["a/val0", "a/val1"]
    reasons = [
        "the row or a copy of it is in val of stageB, which chose its weights",
        "the row or a copy of it is in val of stageA, which chose the weights that stageB started "
        "from",
    ]
    left_out = rows.places["gate:g"].left_out
    assert list(left_out) == reasons[: 2 if started_from else 1]
    assert sum(left_out.values()) == len(gate) - len(kept)


@pytest.fixture
def started(run_folder, tmp_path):
    """A project whose teachers of stage B started from those of stage A, and these teachers."""
    root = tmp_path / "run"
    shutil.copytree(run_folder, root)
    manifest = read_folder(root / "manifests")
    for name in ("RN18", "B3"):
        start_from_stage_a(root, name)
    folders = [root / "models/stageB" / name for name in ("RN18", "B3")]
    teachers = [read_teacher(folder, manifest=manifest) for folder in folders]
    return root / "models", manifest, teachers


def test_gates_leave_out_val_of_the_stage_that_the_teachers_started_from(started, read):
    models, manifest, teachers = started
    val = manifest.rows[manifest.rows["split"] == "val"]
    manifest = dataclasses.replace(manifest, gates={"g": val[val["source"] == "ferplus"]})
    for of_stage, left_out in ((teachers, [0, 120]), (read[1]["stageB"], [0])):
        rows = rows_of(of_stage, models=models, manifest=manifest)
        assert list(rows.places["gate:g"].left_out.values()) == left_out


def test_teachers_whose_first_weights_or_rows_are_not_what_they_say_are_refused(started, read):
    models, manifest, (rn18, b3) = started
    start = b3.started_from.weights_sha256
    _card(weights_sha256="9" * 64)(models / "stageA/B3")
    past = find_past([b3.weights_sha256], models=models, manifest=manifest)
    assert past.unknown == f"no teacher below models/ has the weights {start[:12]}…"
    own = rn18.started_from.model_copy(update={"stage": "stageB"})
    for teachers, expected in (
        (
            [rn18, b3],
            "models/stageB/B3/teacher.json: started_from: expected the weights of models/stageA/B3"
            f", 999999999999…, got {start[:12]}…; run `dvc repro stageB@B3`",
        ),
        ([dataclasses.replace(rn18, started_from=own)], "a stage before stageB, got stageB; run"),
        ([read[1]["stageA"][0], b3], "filter: RN18 and B3 were trained on other rows"),
    ):
        with pytest.raises(UserError) as error:
            rows_of(teachers, models=models, manifest=manifest)
        assert expected in str(error.value)
    (models / "stageA/B3/teacher.json").unlink()
    with pytest.raises(UserError, match=r"stageA/B3/teacher\.json: expected a file, found none"):
        rows_of([b3], models=models, manifest=manifest)


def test_past_of_weights_is_that_of_every_folder_and_of_what_they_started_from(started):
    """0 epochs pass the weights of stage A through."""
    models, manifest, (teacher, _) = started
    first = teacher.started_from.weights_sha256
    _card(weights_sha256=first)(models / "stageB/RN18")
    past = find_past([first], models=models, manifest=manifest)
    rows = manifest.rows
    for split, known in (("train", past.trained), ("val", past.val)):
        is_known = (rows["split"] == split) & rows["source"].isin(["ferplus", "rafdb_basic"])
        assert set(rows.loc[is_known, "id"]) == set(known["id"])
    assert past.unknown == ""
