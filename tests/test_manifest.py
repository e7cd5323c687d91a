"""The manifest door on small shards, and the data incidents that it must not repeat."""

import json
import random
import shutil
from collections.abc import Iterable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_faces import small_face, write_faces
from small_project import ROOT, write_params

from stages.config import CLASSES, read_yaml
from stages.faces.shards import Face
from stages.manifest import main
from stages.records.schema import read_manifest

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
    write_params(folder, params)
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
    assert set(rows.loc[rows["source"] == "expw_lq", "split"]) == {"train", "val", "test"}
    assert set(read_manifest(finished / "manifests/full.csv")["source"]) == {"expw_hq", "expw_lq"}
    counted = counts(finished)
    official = {"train": 61, "val": 12, "test": 12, "unsplit": 181}
    assert {split: counted[f"rows official {split}"] for split in official} == official
    entry = json.loads((finished / "manifests/index.json").read_text())["files"]["v.csv"]
    assert entry["gate"]
    metrics = json.loads((finished / "metrics/manifest.json").read_text())["manifest"]
    assert metrics["sha256"]["v"] == entry["sha256"]


def test_incident_D6_splits_know_no_listing_order_and_tear_no_photo(finished, tmp_path) -> None:
    """Splits were drawn per face from an unsorted listing: another val set on another machine."""
    windows = two_sources(machine="windows")
    assert run(tmp_path, windows, views=VIEWS, source_groups=GROUPS) == 0
    assert published(tmp_path) == published(finished)
    rows = rows_of(finished)
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    # The faces of a photo stay together, whichever source they count to.
    carved = rows[rows["source"] != "fp"]
    assert (carved.groupby("photo")["split"].nunique() == 1).all()
    assert carved["split"].value_counts(normalize=True)[["val", "test"]].between(0.05, 0.3).all()


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


FP, EXPW = two_sources().values()
FEARLESS = {"fp": [each for each in FP if each.label != "Fear"]}
NO_HQ = {"fp": FP, "expw": [each for each in EXPW if each.id.startswith("expw_lq/")]}
# `expw_hq` stood in a filter for two months while the data said `expw` only.
SHARP = {"v": {}, "hq_train": {"include_sources": ["fp", "expw_hq"], "splits": ["train"]}}
NO_ROWS = (
    "error: params.yaml: manifest.views.hq_train.include_sources: "
    "no rows of source 'expw_hq'; known: ['expw_lq', 'fp']; did you mean 'expw_lq'?"
)


@pytest.mark.parametrize(
    ("sources", "views", "expected"),
    [
        ({}, {"v": {}}, "standardize"),
        (FEARLESS, {"v": {}}, "manifest: expected train rows of every class, got none of ['Fear']"),
        pytest.param(NO_HQ, SHARP, NO_ROWS, id="incident_D3_a_name_without_rows"),
    ],
)
def test_bad_input_is_one_message_and_leaves_what_was(
    finished: Path, tmp_path: Path, capsys, sources, views, expected: str
) -> None:
    shutil.copytree(finished, tmp_path / "here")
    assert run(tmp_path / "here", sources, views=views) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert "Traceback" not in message
    assert published(tmp_path / "here") == published(finished)


def test_incident_D1_D4_D10_copies_and_small_pictures_are_found_before_any_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Copies under hashed names, altered copies in val and test, and 48 px under another name."""
    caplog.set_level("INFO")
    names = [f"fp/3f9a_{each.id[3:]}" for each in FP]
    again = [replace(each, id=name, photo=name) for each, name in zip(FP, names, strict=True)]
    size = {"native_px": 48, "width": 224, "height": 224, "split": "train"}
    upscaled = [small_face(f"uniform/{n:03d}", **size) for n in range(60)]
    # Val was filled up, to the row, with mirrored and brightened copies.
    large = [small_face(f"s/{n:04d}", label=CLASSES[n % 7], native_px=200) for n in range(700)]
    altered = []
    for n, each in enumerate(large[:70]):
        pixels = np.frombuffer(each.thumbnail, np.uint8).reshape(24, 24)
        other = (pixels[:, ::-1] if n % 2 else pixels // 2 + 60).tobytes()
        kept = {"label": each.label, "split": "val", "native_px": 200}
        altered.append(small_face(f"{each.id}_aug", thumbnail=other, **kept))
    sources = {"fp": [*FP, *again], "uniform": upscaled, "s": [*large, *altered]}
    assert run(tmp_path, sources, val_share=0.2, test_share=0.2, stage_b_px=64) == 0
    rows = rows_of(tmp_path)
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    assert rows[rows["source"] == "fp"].groupby("sha256")["group"].nunique().eq(1).all()
    assert counts(tmp_path)["duplicates exact redundant_rows"] == 86
    assert "all_copies: fp: 100.0% (170 of 170) of its rows have a duplicate" in caplog.text
    near = table(tmp_path, "manifests/duplicates").query("kind == 'near'")
    assert near["mirrored"].value_counts().to_list() == [35, 35]
    excluded = table(tmp_path, "manifests/excluded").query("source == 's'")
    assert excluded["reason"].str.fullmatch("near_twin_in_(val|test)").all()
    assert len(excluded) == 70
    assert "exact_balance: s val: 10 rows of each class" in caplog.text
    sizes = table(tmp_path, "plots/data/manifest/native_px").query("rows > 0")
    learnt = {name: set(part["source"]) for name, part in sizes.groupby("selection")}
    assert learnt["stageA"] == {"fp", "uniform", "s"}
    assert learnt["stageB"] == {"s"}
    assert "train rows; native size 192_255 px" in caplog.text
