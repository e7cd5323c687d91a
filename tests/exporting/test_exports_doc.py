"""docs/exports.md: every command and program in it is run on an export of a small project."""

import logging
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from stages.config import CLASSES
from stages.exporting.bundle import read_bundle
from stages.exporting.checks import torch_answers
from stages.exporting.onnx_file import CalibratedModel
from stages.exporting.reference import Expressions, read_picture
from tools import predict

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "exports.md").read_text("utf-8")
FERPLUS_ZIP = os.environ.get("FERPLUS_ZIP", "")
YUNET_ONNX = os.environ.get("YUNET_ONNX", "")


def blocks(mark: str, language: str) -> list[str]:
    return re.findall(rf"<!-- {mark} -->\n```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """A project with an export, a face, a photo and the programs of the page."""
    root = tmp_path_factory.mktemp("doc") / "project"
    shutil.copytree(exported, root)
    noise = np.random.default_rng(0).integers(0, 256, (150, 160, 3), np.uint8)
    for name in ("face.png", "photo.png"):
        cv2.imwrite(str(root / name), cv2.blur(noise, (9, 9)))
    for name in ("student", "webcam"):
        (text,) = blocks(name, "python")
        (root / f"{name}.py").write_text(text, encoding="utf-8")
    return root


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_of_code_is_tried_by_some_test():
    assert len(re.findall(r"^```\w", TEXT, flags=re.MULTILINE)) == 7
    assert len(blocks("run", "bash")) + len(blocks("run", "python")) == 4


@pytest.mark.parametrize("text", blocks("run", "bash") + blocks("run", "python"))
def test_incident_X4_documented_commands_and_programs_run(folder, text):
    if not text.startswith("python "):
        assert "Angry" in run(folder, "-c", text)
        return
    said = yaml.safe_load(run(folder, *shlex.split(text)[1:]))
    assert tuple(said["probabilities"]) == CLASSES
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert said["label"] in CLASSES


def test_documented_predictions_are_those_of_torch_by_calibration_json(folder, monkeypatch, caplog):
    monkeypatch.chdir(folder)
    caplog.set_level(logging.INFO)
    command, with_detector = blocks("predict", "bash")[0].splitlines()
    assert predict.main(shlex.split(command)[3:]) == 0
    assert "expw: 30 rows in stageA, 30 rows in stageB; licence: drawn by" in caplog.text
    assert "its answers on photographs mean nothing" in caplog.text
    table = pd.read_csv("predictions/faces.csv")
    assert table["file"].tolist() == ["face.png", "photo.png"]
    bundle = read_bundle(Path("models"))
    model = CalibratedModel(bundle.ensemble.teachers, calibration=bundle.ensemble.calibration)
    prepare = Expressions("models/export/ensemble.onnx").prepare
    inputs = np.stack([prepare(read_picture(file)) for file in table["file"]])
    wanted, numbers = torch_answers(model.eval(), torch.from_numpy(inputs))
    np.testing.assert_allclose(table[list(CLASSES)], wanted, atol=1e-4)
    assert table["label"].tolist() == [CLASSES[number] for number in numbers]
    # The warning is about drawn faces, and the card about the weights beside it.
    card = Path("models/export/model_card.md")
    text = card.read_text("utf-8")
    card.write_text(text.replace("drawn by this project; shows nobody", "CC BY"), "utf-8")
    caplog.clear()
    assert predict.main([*shlex.split(command)[3:], "--overwrite"]) == 0
    assert "licence: CC BY" in caplog.text
    assert "mean nothing" not in caplog.text
    card.write_text(text.replace(bundle.card.weights_sha256[:12], "0" * 12), "utf-8")
    assert predict.main([*shlex.split(command)[3:], "--overwrite"]) == 0
    assert "what it learnt from is unknown" in caplog.text
    card.write_text(text, "utf-8")
    # YuNet's file is the user's.
    if YUNET_ONNX:
        shutil.copy(YUNET_ONNX, "yunet.onnx")
    assert predict.main(shlex.split(with_detector)[3:]) == (0 if YUNET_ONNX else 2)


def test_a_student_learns_from_the_exported_files_with_each_loss(folder):
    lines = [line.split() for line in run(folder, "student.py", "40").splitlines()]
    assert [line[0] for line in lines] == ["ce", "ce", "kd", "kd", "dkd", "dkd"]
    for first, last in zip(lines[::2], lines[1::2], strict=True):
        assert float(last[2]) < 0.7 * float(first[2]), first[0]
    # Of soft labels the teacher is learnt; of the true ones, here, something else.
    before, (ce, kd, dkd) = float(lines[2][3]), (float(line[3]) for line in lines[1::2])
    assert kd < 0.5 * before
    assert dkd < 0.5 * before
    assert ce > 2 * max(kd, dkd)


def test_kd_is_dkd_with_the_weight_of_the_rest_that_the_teacher_gives_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = runpy.run_path("student.py")
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 7, dtype=torch.float64) * 3
    y, temperature = torch.tensor([2]), names["T"]
    # Zhao 2022, equation 6: KD = TCKD + (1 - p_t) NCKD.
    weight = 1 - F.softmax(teacher / temperature, dim=1)[0, 2].item()
    kd, dkd = names["kd"], names["dkd"]
    loss = dkd(student, teacher, y, alpha=1, beta=weight)
    assert kd(student, teacher, y).item() == pytest.approx(loss.item())
    assert kd(teacher, teacher, y).item() == pytest.approx(0, abs=1e-12)


def test_reported_the_student_reads_batches_and_never_all_rows(folder, tmp_path, monkeypatch):
    # The view's rows 50 times over: 1,850 rows are 23 MB of model input.
    shutil.copytree(folder, tmp_path / "project")
    export_folder = tmp_path / "project" / "models" / "export"
    lines = (export_folder / "softlabels_index.jsonl").read_text("utf-8")
    (export_folder / "softlabels_index.jsonl").write_text(50 * lines, encoding="utf-8")
    arrays = dict(np.load(export_folder / "softlabels.npz"))
    np.savez(
        export_folder / "softlabels.npz",
        logits=np.tile(arrays["logits"], (50, 1)),
        y=np.tile(arrays["y"], 50),
    )
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["student.py", "1"])
    sizes: list[int] = []
    forward = nn.Conv2d.forward

    def noting(module: nn.Conv2d, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return forward(module, images)

    monkeypatch.setattr(nn.Conv2d, "forward", noting)
    tracemalloc.start()
    try:
        runpy.run_path("student.py", run_name="__main__")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(sizes) == 64
    assert peak_bytes < 12e6  # imports included


FAKE_CAMERA = """
import runpy, sys
import cv2, numpy as np

class Camera:
    def __init__(self, source):
        rng = np.random.default_rng(0)
        frame = cv2.blur(rng.integers(0, 256, (120, 160, 3), np.uint8), (9, 9))
        self.frames = [frame] * {frames}

    def read(self):
        return (True, self.frames.pop()) if self.frames else (False, None)

class Detector:
    @staticmethod
    def create(*arguments):
        return Detector()

    def setInputSize(self, size):
        assert tuple(size) == (160, 120)

    def detect(self, frame):
        boxes = [[10, 10, 80, 80], [150, 100, 60, 60], [400, 400, 50, 50], [20, 20, 0, 0],
                 [float("nan"), 0, 9, 9], [30, 20, 60, 70]]
        points = [30, 40, 60, 40, 45, 55, 35, 70, 55, 70, 0.9]
        return 1, np.array([box + points for box in boxes], np.float32)

cv2.VideoCapture, cv2.FaceDetectorYN = Camera, Detector
sys.argv = ["webcam.py", "models/export/ensemble.onnx", "yunet.onnx", "0"]
runpy.run_path("webcam.py", run_name="__main__")
"""


@pytest.mark.parametrize("frames", [0, 2])
def test_reported_webcam_skips_boxes_outside_and_says_that_no_camera_is_there(folder, frames):
    code = FAKE_CAMERA.replace("{frames}", str(frames))
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    if frames == 0:
        assert done.returncode == 1
        assert done.stderr == "camera 0: expected frames, got none; is it there, and free?\n"
        return
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * frames
    assert {line.split()[0] for line in lines} <= set(CLASSES)
    assert done.stderr.count("skipped: ") == 4 * frames


@pytest.mark.skipif(
    not (FERPLUS_ZIP and YUNET_ONNX), reason="set FERPLUS_ZIP and YUNET_ONNX to their files"
)
def test_the_webcam_program_names_the_expression_of_real_faces(folder, tmp_path):
    with zipfile.ZipFile(FERPLUS_ZIP) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))[::997][:20]
        for number, name in enumerate(names):
            face = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            frame = np.full((480, 640, 3), 127, np.uint8)
            frame[120:360, 200:440] = cv2.resize(face, (240, 240), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(tmp_path / f"frame{number:02d}.png"), frame)
    video = str(tmp_path / "frame%02d.png")
    text = run(folder, "webcam.py", "models/export/ensemble.onnx", YUNET_ONNX, video)
    lines = text.splitlines()
    assert len(lines) >= 10
    assert {line.split()[0] for line in lines} <= set(CLASSES)
