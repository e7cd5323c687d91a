"""The manifest door on small shards, and the data incidents that it must not repeat."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_faces import small_face, write_faces

from stages.config import CLASSES, read_yaml
from stages.faces.shards import Face
from stages.manifest import main
from stages.records.schema import read_manifest

ROOT = Path(__file__).parents[1]


def two_sources() -> dict[str, list[Face]]:
    """`fp` with official splits, votes and a copy in test; `expw` without splits, faces by photo."""
    fp = [
        small_face(f"fp/{split}{i:03d}", split=split, votes=(1.0, 0, 0, 4, 0, 5, 0))
        for split, count in [("train", 60), ("val", 12), ("test", 12)]
        for i in range(count)
    ]
    fp.append(small_face("fp/train999", split="train", sha256=fp[-1].sha256))
    expw = [
        small_face(
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
    for stage in ("stageA", "stageB"):
        params[stage]["filter"] |= {"include_sources": [], "min_native_px": 0}
    params["manifest"] |= {"source_groups": {}, "views": {"v": {}}} | manifest
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for name, faces in sources.items():
        write_faces(folder / "standardized" / name, faces)


def published(folder: Path) -> dict[str, bytes]:
    parts = ("manifests", "metrics", "plots/data/manifest")
    paths = [path for part in parts for path in (folder / part).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def manifest(folder: Path) -> pd.DataFrame:
    return read_manifest(folder / "manifests" / "classification_manifest.csv")


def counts(folder: Path) -> dict[str, int]:
    """The numbers of counts.csv, such as `rows official test`."""
    table = pd.read_csv(folder / "plots/data/manifest/counts.csv")
    return {" ".join(keys): value for *keys, value in table.to_numpy().tolist()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_door(here: Path) -> None:
    views = {"v": {"splits": ["test"], "gate": True}, "full": {"include_sources": ["expw_full"]}}
    groups = {"expw_full": ["expw_hq", "expw_lq"]}
    lay_out(here, two_sources(), views=views, source_groups=groups)
    assert main([]) == 0
    rows = manifest(here)
    assert len(rows) == 60 + 12 + 12 + 180
    assert rows["p_surprise"].notna().sum() == 84
    assert rows.loc[rows["source"] == "expw_hq", "confidence"].isin([80.5, 60.0]).all()
    # The faces of a photo stay together, whichever source they count to.
    assert (rows[rows["source"] != "fp"].groupby("photo")["split"].nunique() == 1).all()
    assert set(rows.loc[rows["source"] == "expw_lq", "split"]) == {"train", "val", "test"}
    full = read_manifest(here / "manifests/full.csv")
    assert set(full["source"]) == {"expw_hq", "expw_lq"}
    found = counts(here)
    official = {"train": 61, "val": 12, "test": 12, "unsplit": 180}
    assert {split: found[f"rows official {split}"] for split in official} == official
    assert found["leaks excluded twin_in_test"] == 1
    index = json.loads((here / "manifests/index.json").read_text())
    assert index["files"]["v.csv"]["gate"]
    metrics = json.loads((here / "metrics/manifest.json").read_text())["manifest"]
    assert metrics.pop("sha256")["v"] == index["files"]["v.csv"]["sha256"]
    groups = [part if isinstance(part, dict) else {name: part} for name, part in metrics.items()]
    numbers = [number for group in groups for number in group.values()]
    assert all(isinstance(number, int) for number in numbers)
    # Few enough to be read: 14, and one for each source.
    assert len(numbers) == 14 + len({"fp", "expw_hq", "expw_lq"})
    first = published(here)
    for name, data in first.items():
        assert str(here).encode() not in data, name
        assert b"\r" not in data, name
    assert main([]) == 0
    assert published(here) == first


def test_the_door_opens_without_heavy_imports() -> None:
    code = "import sys, stages.manifest; print({'pandas', 'pandera', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_source_that_is_added_changes_no_split(here: Path) -> None:
    """Not even one that sorts first and shares pictures: rows may leave for its test, none moves."""
    sources = two_sources()
    lay_out(here, sources)
    assert main([]) == 0
    before = manifest(here).set_index("id")
    old = [*sources["expw"][:30], *sources["fp"][:10]]
    added = [
        small_face(f"added/{n:02d}", sha256=each.sha256, split=("train", "test")[n % 2])
        for n, each in enumerate(old)
    ]
    write_faces(here / "standardized/added", added)
    assert main([]) == 0
    after = manifest(here).set_index("id")
    stayed = before.index.intersection(after.index)
    assert after.loc[stayed, "split"].equals(before.loc[stayed, "split"])
    excluded = pd.read_csv(here / "manifests/excluded.csv").set_index("id")
    gone = before.index.difference(after.index)
    assert len(gone) >= 5
    assert excluded.loc[gone, "reason"].str.fullmatch("(twin|group)_in_(val|test)").all()


def test_bad_input_is_one_message_and_leaves_what_was(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(here, {})
    assert main([]) == 2
    assert "standardize" in capsys.readouterr().err
    assert not (here / "manifests").exists()
    sources = two_sources()
    lay_out(here, sources)
    assert main([]) == 0
    first = published(here)
    shutil.rmtree(here / "standardized")
    write_faces(here / "standardized/fp", [f for f in sources["fp"] if f.label != "Fear"])
    capsys.readouterr()
    assert main([]) == 2
    message = capsys.readouterr().err
    expected = "manifest: expected train rows of every class, got none of ['Fear']"
    assert f"error: params.yaml: {expected}" in message
    assert "Traceback" not in message
    assert published(here) == first


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
    copy = small_face(
        "expw_hq/copy#0", photo="expw/copy", sha256=repeated.sha256, label=repeated.label
    )
    sources["expw"].append(copy)
    lay_out(here, sources)
    assert main([]) == 0
    rows = manifest(here)
    ids = {each.id for each in sources["expw"]}
    # Each photo has three faces and keeps them; even the true copy stays, on its twin's side.
    assert ids <= set(rows["id"])
    assert (rows[rows["photo"].str.match(r"expw/\d")].groupby("photo").size() == 3).all()
    pairs = pd.read_csv(here / "manifests/duplicates.csv").set_index("id_b")
    assert pairs.loc[copy.id, "id_a"] == repeated.id
    # What did leave has its row, and left for its pixels.
    excluded = pd.read_csv(here / "manifests/excluded.csv")
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
    rows = manifest(tmp_path / "linux")
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    shares = rows[rows["source"] != "fp"].groupby("split").size() / 180
    assert np.all((shares[["val", "test"]] > 0.05) & (shares[["val", "test"]] < 0.3))


def test_incident_D1_a_source_listed_twice_is_found_before_any_training(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cleaner linked every file again under a hashed name: 175,145 copies, unseen for months."""
    sources = two_sources()
    again = [
        small_face(f"fp/3f9a_{each.id[3:]}", sha256=each.sha256, split=each.split, label=each.label)
        for each in sources["fp"]
    ]
    lay_out(here, {"fp": [*sources["fp"], *again]})
    assert main([]) == 0
    assert counts(here)["duplicates exact redundant_rows"] == 86
    assert "all_copies: fp: 100.0% (170 of 170) of its rows have a duplicate" in caplog.text
    rows = manifest(here)
    assert (rows.groupby("sha256")["group"].nunique() == 1).all()
    assert (rows.groupby("sha256").size() == 2).all()


def test_incident_D4_native_size_leaves_out_upscaled_sources(here: Path) -> None:
    """Leaving out `ferplus` by name let 112,000 rows of 48 px through under another name."""
    sharp = [small_face(f"sharp/{n:03d}", native_px=200, split="train") for n in range(60)]
    upscaled = [
        small_face(f"uniform/{n:03d}", native_px=48, width=224, height=224, split="train")
        for n in range(60)
    ]
    sharp += [small_face(f"sharp/{s}", native_px=200, split=s) for s in ("val", "test")]
    lay_out(here, {"sharp": sharp, "uniform": upscaled}, val_share=0.0, test_share=0.0)
    params = read_yaml(here / "params.yaml")
    params["stageB"]["filter"]["min_native_px"] = 64
    (here / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert main([]) == 0
    sizes = pd.read_csv(here / "plots/data/manifest/native_px.csv")
    small = sizes[sizes["bucket"] == "48_63"].groupby("selection")["rows"].sum()
    assert sizes.groupby("selection")["rows"].sum()[["stageA", "stageB"]].to_list() == [120, 60]
    assert small[["stageA", "stageB"]].to_list() == [60, 0]


def test_incident_D10_altered_copies_stay_on_one_side_and_even_classes_are_warned_of(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Val and test were filled up, to the row, with mirrored and brightened copies."""
    originals = [small_face(f"s/{n:04d}", label=CLASSES[n % 7]) for n in range(700)]
    copies = []
    for n, each in enumerate(originals[:70]):
        pixels = np.frombuffer(each.thumbnail, np.uint8).reshape(24, 24)
        altered = pixels[:, ::-1] if n % 2 else pixels // 2 + 60
        copies.append(
            small_face(f"s/{n:04d}_aug", label=each.label, thumbnail=altered.tobytes(), split="val")
        )
    lay_out(here, {"s": [*originals, *copies]}, val_share=0.2, test_share=0.2)
    assert main([]) == 0
    rows = manifest(here)
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    pairs = pd.read_csv(here / "manifests/duplicates.csv")
    assert len(pairs) == 70
    assert pairs["mirrored"].sum() == 35
    excluded = pd.read_csv(here / "manifests/excluded.csv")
    assert excluded["reason"].str.fullmatch("near_twin_in_(val|test)").all()
    assert len(excluded) == 70
    assert "exact_balance: s val: 10 rows of each class" in caplog.text
