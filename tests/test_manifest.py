"""The manifest door on small shards, and the data incidents that it must not repeat."""

import hashlib
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.config import read_yaml
from stages.manifest import main
from stages.records.faces import Face, ShardWriter
from stages.records.schema import read_manifest
from stages.sources.labels import CLASSES

ROOT = Path(__file__).parents[1]


def face(id_: str, **values: Any) -> Face:
    """A face unlike all others in what `values` leave out."""
    known: dict[str, Any] = {
        "image": b"-", "width": 48, "height": 48, "native_px": 48, "label": CLASSES[hash_of(id_) % 7],
        "votes": None, "split": None, "photo": id_, "confidence": None,
        "sha256": hashlib.sha256(id_.encode()).hexdigest(), "dhash": 0, "raw": id_,
    }  # fmt: skip
    return Face(id=id_, **(known | values))


def hash_of(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def two_sources() -> dict[str, list[Face]]:
    """`fp` with official splits, votes and a copy in test; `expw` without splits, faces by photo."""
    fp = [
        face(f"fp/{split}{i:03d}", split=split, votes=(1.0, 0, 0, 4, 0, 5, 0))
        for split, count in [("train", 60), ("val", 12), ("test", 12)]
        for i in range(count)
    ]
    fp.append(face("fp/train999", split="train", sha256=fp[-1].sha256))
    expw = [
        face(
            f"expw_{quality}/{photo:03d}#{number}", photo=f"expw/{photo:03d}", confidence=confidence
        )
        for photo in range(60)
        for number, (quality, confidence) in enumerate([("hq", 80.5), ("hq", 60.0), ("lq", 20.25)])
    ]
    return {"fp": fp, "expw": expw}


def lay_out(folder: Path, sources: dict[str, Iterable[Face]], **manifest: Any) -> None:
    """`params.yaml` and `standardized/` as the stage before leaves them."""
    folder.mkdir(exist_ok=True)
    params = read_yaml(ROOT / "params.yaml")
    params["export"]["soft_labels_view"] = "v"
    params["manifest"] = {"val_share": 0.15, "test_share": 0.15, "views": {"v": {}}} | manifest
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for name, faces in sources.items():
        (folder / "standardized" / name).mkdir(parents=True)
        with ShardWriter(folder / "standardized" / name, shard_mb=1) as writer:
            for each in faces:
                writer.add(each)


def published(folder: Path) -> dict[str, bytes]:
    paths = [*(folder / "manifests").iterdir(), folder / "metrics" / "manifest.json"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_door(here: Path) -> None:
    views = {"v": {"splits": ["test"], "gate": True}, "full": {"include_sources": ["expw_full"]}}
    groups = {"expw_full": ["expw_hq", "expw_lq"]}
    lay_out(here, two_sources(), views=views, source_groups=groups)
    assert main([]) == 0
    rows = read_manifest(here / "manifests" / "classification_manifest.csv")
    assert len(rows) == 60 + 12 + 12 + 180
    assert rows["p_surprise"].notna().sum() == 84
    assert rows.loc[rows["source"] == "expw_hq", "confidence"].isin([80.5, 60.0]).all()
    # The faces of a photo stay together, whichever source they count to.
    assert (rows[rows["source"] != "fp"].groupby("photo")["split"].nunique() == 1).all()
    assert set(rows.loc[rows["source"] == "expw_lq", "split"]) == {"train", "val", "test"}
    full = read_manifest(here / "manifests" / "full.csv")
    assert set(full["source"]) == {"expw_hq", "expw_lq"}
    metrics = json.loads((here / "metrics" / "manifest.json").read_text())["manifest"]
    assert metrics["rows"]["official"] == {"train": 61, "val": 12, "test": 12, "unsplit": 180}
    assert metrics["leaks"]["excluded"]["twin_in_test"] == 1
    index = json.loads((here / "manifests" / "index.json").read_text())
    assert index["files"]["v.csv"]["gate"]
    assert metrics["files"]["v"]["sha256"] == index["files"]["v.csv"]["sha256"]


def test_no_trace_of_the_machine(here: Path) -> None:
    lay_out(here, two_sources())
    assert main([]) == 0
    for name, data in published(here).items():
        assert str(here).encode() not in data, name
        assert b"\r" not in data, name


def test_running_again_changes_no_byte(here: Path) -> None:
    lay_out(here, two_sources())
    assert main([]) == 0
    first = published(here)
    assert main([]) == 0
    assert published(here) == first


def test_a_source_that_is_added_moves_no_row(here: Path) -> None:
    sources = two_sources()
    lay_out(here, {"expw": sources["expw"]})
    assert main([]) == 0
    before = read_manifest(here / "manifests" / "classification_manifest.csv").set_index("id")
    (here / "standardized" / "fp").mkdir()
    with ShardWriter(here / "standardized" / "fp", shard_mb=1) as writer:
        for each in sources["fp"]:
            writer.add(each)
    assert main([]) == 0
    after = read_manifest(here / "manifests" / "classification_manifest.csv").set_index("id")
    assert len(after) > len(before)
    pd.testing.assert_frame_equal(after.loc[before.index], before)


def test_bad_input_is_one_message_and_leaves_what_was(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(here, two_sources())
    assert main([]) == 0
    first = published(here)
    fear = [each for each in two_sources()["fp"] if each.label != "Fear"]
    for path in (here / "standardized").rglob("*"):
        path.unlink() if path.is_file() else None
    with ShardWriter(here / "standardized" / "fp", shard_mb=1) as writer:
        for each in fear:
            writer.add(each)
    capsys.readouterr()
    assert main([]) == 2
    message = capsys.readouterr().err
    assert (
        "error: params.yaml: manifest: expected train rows of every class, got none of ['Fear']"
        in message
    )
    assert "Traceback" not in message
    assert published(here) == first


def test_without_faces_the_door_says_what_to_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(here, {})
    assert main([]) == 2
    assert "standardize" in capsys.readouterr().err
    assert not (here / "manifests").exists()


def test_help_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "python -m stages.manifest" in capsys.readouterr().out


def test_incident_D3_a_name_without_rows_is_an_error(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`expw_hq` stood in a filter for two months while the data said `expw` only."""
    sources = two_sources()
    sources["expw"] = [each for each in sources["expw"] if each.id.startswith("expw_lq/")]
    views = {"v": {}, "hq_train": {"include_sources": ["fp", "expw_hq"], "splits": ["train"]}}
    lay_out(here, sources, views=views)
    assert main([]) == 2
    assert (
        "error: params.yaml: manifest.views.hq_train.include_sources: "
        "no rows of source 'expw_hq'; known: ['expw_lq', 'fp']; did you mean 'expw_lq'?"
    ) in capsys.readouterr().err
    assert not (here / "manifests").exists()


def test_incident_D5_faces_of_one_photo_are_not_copies(here: Path) -> None:
    """Dropping repeated image paths deleted 23,697 different faces of the same photos."""
    sources = two_sources()
    repeated = sources["expw"][0]
    copy = face("expw_hq/copy#0", photo="expw/copy", sha256=repeated.sha256, label=repeated.label)
    sources["expw"].append(copy)
    lay_out(here, sources)
    assert main([]) == 0
    rows = read_manifest(here / "manifests" / "classification_manifest.csv")
    ids = {each.id for each in sources["expw"]}
    # Each photo has three faces and keeps them; even the true copy stays, on its twin's side.
    assert ids <= set(rows["id"])
    assert (rows[rows["photo"].str.match(r"expw/\d")].groupby("photo").size() == 3).all()
    pairs = pd.read_csv(here / "manifests" / "duplicates.csv").set_index("id_b")
    assert pairs.loc[copy.id, "id_a"] == repeated.id
    # What did leave has its row, and left for its pixels.
    excluded = pd.read_csv(here / "manifests" / "excluded.csv")
    everyone = {each.id for faces in sources.values() for each in faces}
    assert everyone - set(rows["id"]) == set(excluded["id"]) == {"fp/train999"}
    assert excluded["reason"].to_list() == ["twin_in_test"]
    assert excluded["detail"].to_list() == ["fp/test011"]


def test_incident_D6_splits_know_no_listing_order_and_tear_no_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Splits were drawn per face from an unsorted listing: another val set on another machine."""
    results = []
    for machine in ("linux", "windows"):
        sources = two_sources()
        for faces in sources.values():
            random.Random(machine).shuffle(faces)
        lay_out(tmp_path / machine, sources)
        monkeypatch.chdir(tmp_path / machine)
        assert main([]) == 0
        results.append(published(tmp_path / machine))
    assert results[0] == results[1]
    rows = read_manifest(tmp_path / "linux" / "manifests" / "classification_manifest.csv")
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    shares = rows[rows["source"] != "fp"].groupby("split").size() / 180
    assert np.all((shares[["val", "test"]] > 0.05) & (shares[["val", "test"]] < 0.3))
