"""The benchmarks run and print what they promise; how fast they are is no test's matter."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import ROOT

from benchmarks import calibrate, machine, noop, standardize
from benchmarks.command import in_child, show
from benchmarks.shards import write_standardized
from benchmarks.synthetic import draw_thumbnails
from stages.config import CLASSES
from stages.faces.shards import read_faces

NAMES = ["calibrate", "duplicates", "export", "kills", "loader", "manifest", "noop", "standardize"]


def figures_of(name: str, *, faces: int) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--faces", str(faces), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    figures: dict[str, Any] = json.loads(line)
    return figures


@pytest.mark.parametrize("name", [*NAMES, "train"])
def test_help_answers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    assert end.value.code == 0
    assert f"python -m benchmarks.{name} [-h] [--" in capsys.readouterr().out


def test_calibrate_draws_what_scoring_anew_gives() -> None:
    assert calibrate.measure(300)["largest_difference"] < 1e-12


def test_standardize_compares_every_kind_of_dataset_with_decoding() -> None:
    figures = standardize.measure(100)
    numbers = {name: (part["pictures"], part["faces"]) for name, part in figures.items()}
    assert numbers == {
        "ferplus_48_png": (100, 100),
        "rafdb_100_jpeg": (50, 50),
        "affectnet_224_512_jpeg": (10, 10),
        "expw_640x480_photos": (5, 11),
    }
    for part in figures.values():
        assert 0 < part["lowest"] <= part["share_of_decoding"] <= part["highest"]
        assert part["highest_share"] > 0


def test_manifest_runs_the_door_and_finds_what_was_planted() -> None:
    figures = figures_of("manifest", faces=800)
    assert 30 < figures["exact_pictures"] <= 40
    assert figures["near_pairs"] >= 16
    assert 700 < figures["rows"] < 800
    assert figures["peak_gib"] > 0
    assert {"read_all_faces", "freeze", "publish", "take_survey"} <= set(figures["parts_s"])


def test_duplicates_holds_the_search_against_brute_force() -> None:
    figures = figures_of("duplicates", faces=1000)
    assert figures["faces"] == figures["brute_force_rows"] == 1000
    assert figures["near_pairs"] >= 70
    assert figures["near_mirrored"] >= 10
    assert figures["found_of_them"] == 1.0
    assert figures["found_besides"] == 0


@pytest.mark.pipeline
def test_noop_times_a_repro_that_does_nothing() -> None:
    figures = noop.measure(300)
    assert 0 < figures["seconds_min"] <= figures["seconds_median"]
    assert figures["standardized_mb"] > 0


def test_without_json_figures_are_indented_and_the_machine_is_described_but_not_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("name", {"a": {"b": 1_000}, "c": "x"}, as_json=False)
    text = capsys.readouterr().out
    assert text.startswith(f"name\n  a\n    {'b':<24} 1,000\n  {'c':<24} x\n")
    assert f"cores                    {machine.num_cores()}" in text
    assert str(Path.home()) not in text


def _hold(megabytes: int) -> float:
    held = bytearray(megabytes << 20)
    return machine.peak_gib() if held else 0.0


def test_a_child_counts_its_own_memory() -> None:
    held = np.ones(400 << 20, np.uint8)
    little, much = in_child(_hold, 1), in_child(_hold, 300)
    assert held.nbytes / 2**30 > 0.39
    assert 0.25 < much - little < 0.35


# --- synthetic faces -----------------------------------------------------------------------------


def test_unrelated_thumbnails_are_as_unlike_as_real_ones() -> None:
    correlation = np.corrcoef(draw_thumbnails(1500))[np.triu_indices(1500, 1)]
    assert correlation.mean() == pytest.approx(0.06, abs=0.03)
    assert correlation.std() == pytest.approx(0.25, abs=0.02)
    assert correlation.max() < 0.9


def test_shards_are_the_same_each_time_and_like_the_real_mixture(tmp_path: Path) -> None:
    written = []
    for name in ("first", "second"):
        write_standardized(tmp_path / name, 1000)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append([path.read_bytes() for path in files])
    assert written[0] == written[1]
    assert len(written[0]) == 8
    faces = read_faces(tmp_path / "first", ["id", "label", "split", "photo", "native_px", "sha256"])
    assert len(faces) == faces["id"].nunique() == 1000
    assert set(faces["label"]) == set(CLASSES)
    assert 1000 - faces["sha256"].nunique() == 50
    source = faces["id"].str.partition("/")[0]
    expected = {"ferplus", "rafdb_basic", "affectnet_full_balanced", "expw_hq", "expw_lq"}
    assert set(source) == expected
    photos = faces[source.str.startswith("expw")]
    assert photos["split"].isna().all()
    assert set(photos.groupby("photo").size()) == {1, 2}
    assert set(faces.loc[source == "ferplus", "split"]) == {"train", "val", "test"}
    assert set(faces.loc[source == "ferplus", "native_px"]) == {48}
