"""What is timed against the classic chain is the same work on the same pictures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from shipped import shipped

from benchmarks import loader
from stages.config import Augmentation, Clahe
from stages.faces.store import FaceStore

PLAIN = Augmentation(crop_scale=(1, 1), flip=0, brightness=0, contrast=0, saturation=0)


def test_json_has_a_ratio_for_each_size_and_device_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "ROUNDS", 1)
    monkeypatch.setattr(loader, "ENOUGH_SECONDS", 0.01)
    threads = torch.get_num_threads()
    assert loader.main(["--faces", "8", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    assert set(figures) == {"224", "384"}
    for found in figures.values():
        for name in ("gpu", "cpu", "gpu_without_clahe", "cpu_without_clahe"):
            assert found[name] > 0
            assert name in found["spread"]
        assert set(found["faces_per_s"]) > {"classic", "classic_without_clahe", "decode"}
    assert torch.get_num_threads() == threads


def test_files_and_shards_hold_the_same_bytes(tmp_path: Path) -> None:
    files = loader.write_faces(tmp_path, 3, size=40)
    images = FaceStore(tmp_path / "standardized").images(np.arange(3))
    assert [bytes(image) for image in images] == [file.read_bytes() for file in files]
    assert cv2.imread(str(files[0])).shape == (40, 40, 3)


def test_both_sides_make_the_same_input_of_unvaried_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "AUGMENTATION", PLAIN)
    files = loader.write_faces(tmp_path, 4, size=64)
    ours = loader._contenders(tmp_path / "standardized", files, size=64)["cpu_without_clahe"]
    (batch,) = ours()
    order = np.argsort(batch["index"].numpy())
    ((classic, _),) = loader.classic_chain(files, size=64, preprocess=loader.WITHOUT_CLAHE)
    assert torch.allclose(batch["image"][order], classic, atol=1e-5)


def test_the_classic_clahe_raises_contrast_and_keeps_the_picture() -> None:
    noise = np.random.default_rng(0).normal(120, 8, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    found = np.asarray(loader.LabClahe(shipped(Clahe))(Image.fromarray(cv2.blur(noise, (3, 3)))))
    assert found.shape == (64, 64, 3)
    assert found.std() > 1.3 * cv2.blur(noise, (3, 3)).std()
