"""The benchmarks run and print what they promise; how fast they are is no test's matter."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import machine
from benchmarks.command import as_lines, in_child
from benchmarks.raw_zips import RAW_KINDS
from benchmarks.shards import write_standardized
from benchmarks.synthetic import draw_thumbnails, plant_copies
from stages.config import CLASSES
from stages.faces.shards import read_faces

ROOT = Path(__file__).parents[1]
KEYS = {
    "standardize": set(RAW_KINDS),
    "manifest": {
        "faces",
        "seconds",
        "peak_gib",
        "search_s",
        "without_search_s",
        "parts_s",
        "rows",
        "exact_pictures",
        "near_pairs",
    },
    "calibrate": {
        "faces",
        "draws",
        "ms_per_draw",
        "classic_ms_per_draw",
        "times_faster",
        "times_faster_range",
        "largest_difference",
    },
    "noop": {"faces", "standardized_mb", "seconds_min", "seconds_median"},
}


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures_of(name: str, *, faces: int) -> dict[str, Any]:
    lines = run(name, "--faces", str(faces), "--json").splitlines()
    assert len(lines) == 1
    figures: dict[str, Any] = json.loads(lines[0])
    assert set(figures) == KEYS[name]
    return figures


@pytest.mark.parametrize("name", [*KEYS, "duplicates"])
def test_help_answers(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    assert end.value.code == 0
    assert f"python -m benchmarks.{name} [-h] [--faces N" in capsys.readouterr().out


def test_calibrate_draws_what_scoring_anew_gives() -> None:
    assert figures_of("calibrate", faces=300)["largest_difference"] < 1e-12


def test_standardize_compares_every_kind_of_dataset_with_decoding() -> None:
    figures = figures_of("standardize", faces=100)
    numbers = {name: (found["pictures"], found["faces"]) for name, found in figures.items()}
    assert numbers == {
        "ferplus_48_png": (100, 100),
        "rafdb_100_jpeg": (50, 50),
        "affectnet_224_512_jpeg": (10, 10),
        "expw_640x480_photos": (5, 11),
    }
    for found in figures.values():
        assert found["decode_per_s"] > 0
        assert found["standardize_per_s"] > 0
        assert 0 < found["lowest"] <= found["share_of_decoding"] <= found["highest"]
        assert found["highest_share"] > 0


def test_manifest_runs_the_door_and_finds_what_was_planted() -> None:
    figures = figures_of("manifest", faces=800)
    assert figures["exact_pictures"] <= 40
    assert figures["exact_pictures"] > 30
    assert figures["near_pairs"] >= 16
    assert 700 < figures["rows"] < 800
    assert figures["peak_gib"] > 0
    assert {"read_all_faces", "freeze", "publish", "take_survey"} <= set(figures["parts_s"])


def test_duplicates_holds_the_search_against_brute_force() -> None:
    figures = json.loads(run("duplicates", "--faces", "1000", "--json"))
    assert figures["faces"] == figures["brute_force_rows"] == 1000
    assert figures["near_pairs"] >= 70
    assert figures["near_mirrored"] >= 10
    assert figures["found_of_them"] == 1.0
    assert figures["found_besides"] == 0
    assert figures["seconds"] > 0
    assert figures["peak_gib"] > 0


@pytest.mark.pipeline
def test_noop_times_a_repro_that_does_nothing() -> None:
    figures = figures_of("noop", faces=300)
    assert 0 < figures["seconds_min"] <= figures["seconds_median"]
    assert figures["standardized_mb"] > 0


def test_without_json_the_machine_is_described_but_not_named() -> None:
    text = run("standardize", "--faces", "8")
    assert "share_of_decoding" in text
    assert f"cores                    {machine.num_cores()}" in text
    assert str(ROOT) not in text
    assert str(Path.home()) not in text


def test_lines_of_nested_figures_are_indented() -> None:
    assert list(as_lines({"a": {"b": 1_000}, "c": "x"})) == [
        "a",
        f"  {'b':<24} 1,000",
        f"{'c':<24} x",
    ]


def _hold(megabytes: int) -> float:
    held = bytearray(megabytes << 20)
    return machine.peak_gib() if held else 0.0


def test_a_child_counts_its_own_memory() -> None:
    held = np.ones(400 << 20, np.uint8)
    little, much = in_child(_hold, 1), in_child(_hold, 300)
    assert held.nbytes / 2**30 > 0.39
    assert 0.25 < much - little < 0.35


# --- synthetic faces -----------------------------------------------------------------------------


def correlations(thumbnails: np.ndarray) -> np.ndarray:
    unit = thumbnails - thumbnails.mean(1, keepdims=True, dtype=float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def test_unrelated_thumbnails_are_as_unlike_as_real_ones() -> None:
    thumbnails = draw_thumbnails(1500)
    found = correlations(thumbnails)[np.triu_indices(1500, 1)]
    assert found.mean() == pytest.approx(0.06, abs=0.03)
    assert found.std() == pytest.approx(0.25, abs=0.02)
    assert found.max() < 0.9


def test_copies_are_exact_near_and_mirrored() -> None:
    thumbnails = draw_thumbnails(1000)
    origin = plant_copies(thumbnails)
    copies = np.flatnonzero(origin != np.arange(1000))
    assert len(copies) == 70
    # An original is never a copy itself.
    assert (origin[origin[copies]] == origin[copies]).all()
    assert (thumbnails[copies] == thumbnails[origin[copies]]).all(1).sum() == 50
    mirrored = thumbnails.reshape(-1, 24, 24)[:, :, ::-1].reshape(-1, 576)
    pairs = [
        (
            np.corrcoef(thumbnails[c], thumbnails[o])[0, 1],
            np.corrcoef(thumbnails[c], mirrored[o])[0, 1],
        )
        for c, o in zip(copies, origin[copies], strict=True)
    ]
    straight, turned = np.array(pairs).T
    assert np.maximum(straight, turned).min() > 0.93
    assert (turned > straight).sum() == 10


def test_shards_are_the_same_each_time_and_like_the_real_mixture(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_standardized(tmp_path / name, 1000)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 8
    assert all(
        (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
        for file in files
    )
    columns = ["id", "label", "split", "photo", "native_px", "sha256"]
    faces = read_faces(tmp_path / "one", columns)
    assert len(faces) == faces["id"].nunique() == 1000
    assert set(faces["label"]) == set(CLASSES)
    assert 1000 - faces["sha256"].nunique() == 50
    source = faces["id"].str.partition("/")[0]
    assert set(source) == {
        "ferplus",
        "rafdb_basic",
        "affectnet_full_balanced",
        "expw_hq",
        "expw_lq",
    }
    photos = faces[source.str.startswith("expw")]
    assert photos["split"].isna().all()
    assert set(photos.groupby("photo").size()) == {1, 2}
    assert set(faces.loc[source == "ferplus", "split"]) == {"train", "val", "test"}
    pd.testing.assert_series_equal(
        faces.loc[source == "ferplus", "native_px"].drop_duplicates().reset_index(drop=True),
        pd.Series([48], name="native_px", dtype="int32"),
    )
