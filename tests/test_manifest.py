"""The manifest door on small shards, and the data incidents that it must not repeat."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import chdir
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
VIEWS = {"v": {"splits": ["test"], "gate": True}, "full": {"include_sources": ["expw_full"]}}
GROUPS = {"expw_full": ["expw_hq", "expw_lq"]}


def two_sources(*, machine: str = "linux") -> dict[str, list[Face]]:
    """`fp` with official splits, votes and a copy in test; `expw` without splits, faces by photo.

    Of expw there is a photo that repeats a face. The faces come in the order of the machine.
    """
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
    copy = {"sha256": expw[0].sha256, "label": expw[0].label, "confidence": 60.0}
    expw.append(small_face("expw_hq/copy#0", photo="expw/copy", **copy))
    for faces in (fp, expw):
        random.Random(machine).shuffle(faces)
    return {"fp": fp, "expw": expw}


def run(folder: Path, sources: dict[str, Iterable[Face]], **manifest: Any) -> int:
    """Lay out what the stage before leaves, with these params, and run the door; its exit code."""
    folder.mkdir(exist_ok=True)
    params = read_yaml(ROOT / "params.yaml")
    params["export"]["soft_labels_view"] = "v"
    for stage, least in {"stageA": 0, "stageB": manifest.pop("stage_b_px", 0)}.items():
        params[stage]["filter"] |= {"include_sources": [], "min_native_px": least}
    params["manifest"] |= {"source_groups": {}, "views": {"v": {}}} | manifest
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.rmtree(folder / "standardized", ignore_errors=True)
    for name, faces in sources.items():
        write_faces(folder / "standardized" / name, faces)
    with chdir(folder):
        return main([])


def published(folder: Path) -> dict[str, bytes]:
    parts = ("manifests", "metrics", "plots/data/manifest")
    paths = [path for part in parts for path in (folder / part).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def rows_of(folder: Path) -> pd.DataFrame:
    return read_manifest(folder / "manifests" / "classification_manifest.csv")


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def counts(folder: Path) -> dict[str, int]:
    """The numbers of counts.csv, such as `rows official test`."""
    numbers = table(folder, "plots/data/manifest/counts").to_numpy().tolist()
    return {" ".join(keys): value for *keys, value in numbers}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both sources; tests only read it."""
    folder = tmp_path_factory.mktemp("linux")
    assert run(folder, two_sources(), views=VIEWS, source_groups=GROUPS) == 0
    return folder


def test_the_door(finished: Path) -> None:
    rows = rows_of(finished)
    assert len(rows) == 60 + 12 + 12 + 181
    assert rows["p_surprise"].notna().sum() == 84
    assert rows.loc[rows["source"] == "expw_hq", "confidence"].isin([80.5, 60.0]).all()
    # The faces of a photo stay together, whichever source they count to.
    assert (rows[rows["source"] != "fp"].groupby("photo")["split"].nunique() == 1).all()
    assert set(rows.loc[rows["source"] == "expw_lq", "split"]) == {"train", "val", "test"}
    assert set(read_manifest(finished / "manifests/full.csv")["source"]) == {"expw_hq", "expw_lq"}
    official = {"train": 61, "val": 12, "test": 12, "unsplit": 181}
    counted = counts(finished)
    assert {split: counted[f"rows official {split}"] for split in official} == official
    index = json.loads((finished / "manifests/index.json").read_text())
    assert index["files"]["v.csv"]["gate"]
    metrics = json.loads((finished / "metrics/manifest.json").read_text())["manifest"]
    assert metrics.pop("sha256")["v"] == index["files"]["v.csv"]["sha256"]
    parts = [part if isinstance(part, dict) else {name: part} for name, part in metrics.items()]
    numbers = [number for part in parts for number in part.values()]
    assert all(isinstance(number, int) for number in numbers)
    # Few enough to be read: 14, and one for each source.
    assert len(numbers) == 14 + len({"fp", "expw_hq", "expw_lq"})
    for name, data in published(finished).items():
        assert str(finished).encode() not in data, name
        assert b"\r" not in data, name


def test_incident_D6_splits_know_no_listing_order_and_tear_no_photo(finished, tmp_path) -> None:
    """Splits were drawn per face from an unsorted listing: another val set on another machine."""
    windows = two_sources(machine="windows")
    assert run(tmp_path, windows, views=VIEWS, source_groups=GROUPS) == 0
    assert published(tmp_path) == published(finished)
    rows = rows_of(finished)
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    shares = rows[rows["source"] != "fp"].groupby("split").size() / 181
    assert shares[["val", "test"]].between(0.05, 0.3).all()


def test_incident_D5_faces_of_one_photo_are_not_copies(finished: Path) -> None:
    """Dropping repeated image paths deleted 23,697 different faces of the same photos."""
    rows = rows_of(finished)
    # Each photo has three faces and keeps them; even the true copy stays, on its twin's side.
    sizes = rows[rows["source"] != "fp"].groupby("photo").size()
    assert sizes.to_dict() == {f"expw/{n:03d}": 3 for n in range(60)} | {"expw/copy": 1}
    pairs = table(finished, "manifests/duplicates").set_index("id_b")
    assert pairs.loc["expw_hq/copy#0", "id_a"] == "expw_hq/000#0"
    # What did leave has its row, and left for its pixels.
    excluded = table(finished, "manifests/excluded")[["id", "reason", "detail"]]
    assert excluded.to_numpy().tolist() == [["fp/train999", "twin_in_test", "fp/test011"]]
    assert counts(finished)["leaks excluded twin_in_test"] == 1


def test_the_door_opens_without_heavy_imports() -> None:
    code = "import sys, stages.manifest; print({'pandas', 'pandera', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_bad_input_is_one_message_and_leaves_what_was(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    assert run(here, {}) == 2
    assert "standardize" in capsys.readouterr().err
    assert not (here / "manifests").exists()
    shutil.copytree(finished, here, dirs_exist_ok=True)
    fearless = [face for face in two_sources()["fp"] if face.label != "Fear"]
    assert run(here, {"fp": fearless}) == 2
    message = capsys.readouterr().err
    expected = "manifest: expected train rows of every class, got none of ['Fear']"
    assert f"error: params.yaml: {expected}" in message
    assert "Traceback" not in message
    assert published(here) == published(finished)


def test_incident_D3_a_name_without_rows_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`expw_hq` stood in a filter for two months while the data said `expw` only."""
    sources = two_sources()
    sources["expw"] = [each for each in sources["expw"] if each.id.startswith("expw_lq/")]
    views = {"v": {}, "hq_train": {"include_sources": ["fp", "expw_hq"], "splits": ["train"]}}
    assert run(tmp_path, sources, views=views) == 2
    assert (
        "error: params.yaml: manifest.views.hq_train.include_sources: "
        "no rows of source 'expw_hq'; known: ['expw_lq', 'fp']; did you mean 'expw_lq'?"
    ) in capsys.readouterr().err
    assert not (tmp_path / "manifests").exists()


def test_incident_D1_a_source_listed_twice_is_found_before_any_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cleaner linked every file again under a hashed name: 175,145 copies, unseen for months."""
    fp = two_sources()["fp"]
    again = [
        small_face(f"fp/3f9a_{each.id[3:]}", sha256=each.sha256, split=each.split, label=each.label)
        for each in fp
    ]
    assert run(tmp_path, {"fp": [*fp, *again]}) == 0
    assert counts(tmp_path)["duplicates exact redundant_rows"] == 86
    assert "all_copies: fp: 100.0% (170 of 170) of its rows have a duplicate" in caplog.text
    assert "copied_source" not in caplog.text
    pictures = rows_of(tmp_path).groupby("sha256")["group"].agg(["nunique", "size"])
    assert (pictures == [1, 2]).all(axis=None)


def test_incident_D4_native_size_leaves_out_upscaled_sources(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving out `ferplus` by name let 112,000 rows of 48 px through under another name."""
    caplog.set_level("INFO")
    names = [*(f"{n:03d}" for n in range(60)), "val", "test"]
    sharp = [
        small_face(f"sharp/{name}", native_px=200, split=name if name in names[60:] else "train")
        for name in names
    ]
    size = {"native_px": 48, "width": 224, "height": 224}
    upscaled = [small_face(f"uniform/{name}", **size, split="train") for name in names[:60]]
    sources = {"sharp": sharp, "uniform": upscaled}
    assert run(tmp_path, sources, val_share=0.0, test_share=0.0, stage_b_px=64) == 0
    sizes = table(tmp_path, "plots/data/manifest/native_px").query("rows > 0")
    by_stage = sizes[sizes["selection"] != "manifest"].to_numpy().tolist()
    assert by_stage == [
        ["stageA", "sharp", "192_255", 60],
        ["stageA", "uniform", "48_63", 60],
        ["stageB", "sharp", "192_255", 60],
    ]
    assert "stageA: 120 train rows; native size 48_63 px 60, 192_255 px 60" in caplog.text


def test_incident_D10_altered_copies_stay_on_one_side_and_even_classes_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Val and test were filled up, to the row, with mirrored and brightened copies."""
    originals = [small_face(f"s/{n:04d}", label=CLASSES[n % 7]) for n in range(700)]
    copies = []
    for n, each in enumerate(originals[:70]):
        pixels = np.frombuffer(each.thumbnail, np.uint8).reshape(24, 24)
        altered = (pixels[:, ::-1] if n % 2 else pixels // 2 + 60).tobytes()
        copies.append(
            small_face(f"{each.id}_aug", label=each.label, thumbnail=altered, split="val")
        )
    assert run(tmp_path, {"s": [*originals, *copies]}, val_share=0.2, test_share=0.2) == 0
    assert (rows_of(tmp_path).groupby("group")["split"].nunique() == 1).all()
    assert table(tmp_path, "manifests/duplicates")["mirrored"].value_counts().to_list() == [35, 35]
    excluded = table(tmp_path, "manifests/excluded")
    assert excluded["reason"].str.fullmatch("near_twin_in_(val|test)").all()
    assert len(excluded) == 70
    assert "exact_balance: s val: 10 rows of each class" in caplog.text
