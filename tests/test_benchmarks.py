"""The benchmarks run and print what they promise; how fast they are is no test's matter."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_project import ROOT

from benchmarks import calibrate, loader, machine, noop, standardize, train
from benchmarks.command import in_child, show
from benchmarks.shards import write_standardized
from benchmarks.synthetic import draw_thumbnails
from stages.config import CLASSES
from stages.faces.shards import read_faces
from stages.loading.augmentation import NO_AUGMENTATION

NAMES = "calibrate duplicates export kills loader manifest noop standardize train".split()


def figures_of(name: str, *, faces: int) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--faces", str(faces), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    figures: dict[str, Any] = json.loads(line)
    return figures


@pytest.mark.parametrize("name", NAMES)
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
    assert (figures["found_of_them"], figures["found_besides"]) == (1.0, 0)


@pytest.mark.pipeline
def test_noop_times_a_repro_that_does_nothing() -> None:
    figures = noop.measure(300)
    assert 0 < figures["seconds_min"] <= figures["seconds_median"]
    assert figures["standardized_mb"] > 0


def test_train_measures_every_figure_of_a_gpu_on_a_cpu_too() -> None:
    whole = train.Whole(epochs=2, rows=1000, val_rows=100)
    small = train.Setting(
        *("two_stage", "stageA", "RN18"),
        image_px=32,
        face_px=32,
        num_batches=2,
        whole=whole,
        num_pictures=64,
    )
    found = train.measure(small, device=torch.device("cpu"), rounds=2)
    assert found["rounds"] == 2
    low, high = found["of_bare_step_spread"]
    assert 0 < low <= found["of_bare_step"] <= high
    assert found["of_plain_step"] > 0
    expected = 2 * (1000 / found["loop_img_s"] + 100 / found["scoring_img_s"])
    rounding_s = 0.05 + 0.005 * expected  # its own to 0.1 s, and the rates'
    assert abs(found["projected_s"] - expected) < rounding_s
    assert found["peak_gpu_gib"] is None
    assert found["checkpoint_s"] > 0


def test_loader_has_a_ratio_for_each_size_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "ROUNDS", 1)
    monkeypatch.setattr(loader, "ENOUGH_SECONDS", 0.01)
    threads = torch.get_num_threads()
    figures = loader.measure(8)
    assert set(figures) == {"224", "384"}
    for found in figures.values():
        for name in ("gpu", "cpu", "gpu_without_clahe", "cpu_without_clahe"):
            assert found[name] > 0
            assert name in found["spread"]
    assert torch.get_num_threads() == threads


def test_loader_and_classic_chain_make_the_same_input_of_unvaried_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "AUGMENTATION", NO_AUGMENTATION)
    files = loader.write_faces(tmp_path, 4, size=64)
    ours = loader._contenders(tmp_path / "standardized", files, size=64)["cpu_without_clahe"]
    (batch,) = ours()
    order = np.argsort(batch["index"].numpy())
    ((classic, _),) = loader.classic_chain(files, size=64, preprocess=loader.WITHOUT_CLAHE)
    assert torch.allclose(batch["image"][order], classic, atol=1e-5)


def test_without_json_the_machine_is_described_but_not_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("name", {"a": {"b": 1_000}, "c": "x"}, as_json=False)
    text = capsys.readouterr().out
    assert text.startswith(f"name\n  a\n    {'b':<24} 1,000\n  {'c':<24} x\n")
    assert str(Path.home()) not in text


def _hold(megabytes: int) -> float:
    held = bytearray(megabytes << 20)
    return machine.peak_gib() if held else 0.0


def test_a_child_counts_its_own_memory() -> None:
    held = np.ones(400 << 20, np.uint8)
    little, much = in_child(_hold, 1), in_child(_hold, 300)
    assert held.nbytes / 2**30 > 0.39
    assert 0.25 < much - little < 0.35


def test_unrelated_thumbnails_are_as_unlike_as_real_ones() -> None:
    correlation = np.corrcoef(draw_thumbnails(1500))[np.triu_indices(1500, 1)]
    assert correlation.mean() == pytest.approx(0.06, abs=0.03)
    assert correlation.std() == pytest.approx(0.25, abs=0.02)
    assert correlation.max() < 0.9


def test_shards_are_the_same_each_time_and_hold_copies_and_photos(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_standardized(tmp_path / name, 1000)
    first, second = (sorted((tmp_path / name).rglob("*.*")) for name in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    faces = read_faces(tmp_path / "first", ["id", "label", "split", "photo", "sha256"])
    assert len(faces) == faces["id"].nunique() == 1000
    assert set(faces["label"]) == set(CLASSES)
    assert 1000 - faces["sha256"].nunique() == 50
    photos = faces[faces["id"].str.startswith("expw")]
    assert photos["split"].isna().all()
    assert set(photos.groupby("photo").size()) == {1, 2}
