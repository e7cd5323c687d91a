"""The door on pictures, videos and cameras, with a tiny exported model."""

import logging
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from exporting.tiny import CALIBRATION, CLAHE, SIZE, describe_tiny, make_teacher
from intake.test_align import another_network
from PIL import Image
from shipped import shipped

from stages.config import CLASSES, Preprocess
from stages.exporting.checks import torch_answers
from stages.exporting.onnx_file import CalibratedModel, to_onnx, write_onnx
from stages.exporting.reference import Expressions, read_picture
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from tools import predict
from tools.frames import FaceFinder, whole_picture
from tools.predictions import COLUMNS

FRAMES = 10


@pytest.fixture(scope="module")
def network():
    return CalibratedModel([make_teacher(seed=1)], calibration=CALIBRATION).eval()


@pytest.fixture(scope="module")
def root(network, tmp_path_factory):
    """A folder with a model of levelled faces, a turned photo, a face, a video and broken files."""
    root = tmp_path_factory.mktemp("predict")
    proto = to_onnx(network, image_size=SIZE, opset=18)
    says = describe_tiny(root / "standardized", crop="aligned") | {"precision": "fp32"}
    write_onnx(root / "tiny.onnx", proto, metadata=says)
    write_onnx(root / "foreign.onnx", proto, metadata={"author": "nobody"})
    (root / "other.onnx").write_bytes(another_network())
    for folder in ("photos/sub", "empty"):
        (root / folder).mkdir(parents=True)
    exif = Image.Exif()
    exif[274] = 6
    # As a viewer shows it 60 px wide; above 100 px the model would shrink it first.
    Image.fromarray(blobs(60, 90)).save(root / "photos/turned.jpg", quality=95, exif=exif)
    Image.fromarray(blobs(48, 48, seed=2)).save(root / "photos/sub/face.png")
    for name in ("photos/broken.jpg", "broken.mp4", "empty/notes.txt", "photos/._turned.jpg"):
        (root / name).write_bytes(b"no picture")
    # Folders that no call wrote, or not alone.
    for name, columns in {"table": ("file", "label"), "mixed": COLUMNS}.items():
        (root / name).mkdir()
        pd.DataFrame(columns=columns).to_csv(root / name / "faces.csv", index=False)
        (root / name / "notes.txt").touch()
    (root / "gone").symlink_to("nowhere")
    code = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(root / "clip.avi"), code, 12, (64, 48))
    for number in range(FRAMES):
        video.write(blobs(48, 64, seed=number))
    video.release()
    return root


@pytest.fixture
def folder(root, tmp_path, monkeypatch):
    """The current folder: new, beside links to what `root` holds."""
    for path in root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blobs(height, width, *, seed=1):
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 2)


def run(*arguments):
    return predict.main([*arguments, "--model", "tiny.onnx"])


def frames_of(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1][:, :, ::-1])
    return frames


def test_every_picture_and_frame_is_named_as_torch_does(folder, network, caplog):
    assert run("photos", "clip.avi", "photos/sub/face.png", "99") == 0
    table = pd.read_csv("predictions/faces.csv")
    assert tuple(table.columns) == COLUMNS
    assert COLUMNS[-7:] == CLASSES
    files = ["photos/sub/face.png", "photos/turned.jpg"]
    assert table["file"].tolist() == files + ["clip.avi"] * FRAMES
    assert table["frame"].tolist() == [0, 0, *range(FRAMES)]
    faces = [decode(Path(file).read_bytes()) for file in files] + frames_of("clip.avi")
    boxes = table[["left", "top", "right", "bottom"]].to_numpy().tolist()
    assert boxes == [[0, 0, 48, 48], [0, 0, 60, 90]] + [[0, 0, 64, 48]] * FRAMES
    how = shipped(Preprocess, clahe=CLAHE)
    inputs = np.stack([to_model_input(face, size=SIZE, preprocess=how) for face in faces])
    wanted, numbers = torch_answers(network, torch.from_numpy(inputs))
    np.testing.assert_allclose(table[list(CLASSES)], wanted, atol=1e-4)
    assert table["label"].tolist() == [CLASSES[number] for number in numbers]
    model = Expressions("tiny.onnx")
    of_reference = model.predict([read_picture(file) for file in files])[1]
    np.testing.assert_allclose(table[list(CLASSES)][:2], of_reference, atol=1e-6)
    # What was written beside the table, and what could not be read.
    shown = {p.relative_to("predictions").as_posix() for p in Path("predictions").rglob("*.*")}
    copies = {"photos/sub/face.png", "photos/turned.jpg", "clip.mp4"}
    tables = {"faces.csv", "rejects.csv", "sheet.png"}
    assert shown == tables | {f"annotated/{name}" for name in copies}
    height, width = read_picture("predictions/annotated/photos/turned.jpg").shape[:2]
    assert (height > width, len(frames_of("predictions/annotated/clip.mp4"))) == (True, FRAMES)
    rejects = pd.read_csv("predictions/rejects.csv").set_index("file")["reason"]
    assert rejects.index.tolist() == ["photos/broken.jpg", "camera 99"]
    assert "2 inputs could not be read whole: photos/broken.jpg (expected a picture" in caplog.text
    assert "tiny.onnx: what it learnt from is unknown" in caplog.text
    assert "no --detector: each whole picture is taken for one face" in caplog.text


def test_reported_a_photos_answer_is_said_on_the_terminal(folder, caplog):
    caplog.set_level(logging.INFO)
    assert run("photos/turned.jpg") == 0
    (answer,) = pd.read_csv("predictions/faces.csv").to_dict("records")
    assert f"photos/turned.jpg: {answer['label']} {answer[answer['label']]:.2f}" in caplog.text


def test_a_call_replaces_an_earlier_one_only_when_asked_and_never_reads_it(folder, capsys):
    (folder / "own").mkdir()
    Path("own/face.png").write_bytes(Path("photos/sub/face.png").read_bytes())
    assert run("own", "--out", "own/out") == 0
    before = Path("own/out/faces.csv").read_bytes()
    assert run("clip.avi", "--out", "own/out") == 2
    assert "own/out: exists" in capsys.readouterr().err
    assert Path("own/out/faces.csv").read_bytes() == before
    assert run("own", "--out", "own/out", "--overwrite") == 0
    assert Path("own/out/faces.csv").read_bytes() == before
    assert run("clip.avi", "--out", "own/out", "--overwrite") == 0
    assert len(pd.read_csv("own/out/faces.csv")) == FRAMES
    assert not Path("own/out/annotated/own").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jpg"], "none.jpg: no such picture, folder or video"),
        (["empty"], "empty: expected a folder with pictures, found none in it"),
        (["99"], "camera 99: expected frames, got none; is it there, and free?"),
        (["photos/broken.jpg", "broken.mp4"], "nothing could be read: photos/broken.jpg (and 1"),
        (["broken.mp4"], "broken.mp4: expected a video, got text that begins with 'no picture'"),
        (["photos", "--out", "photos"], "photos: exists; name another folder"),
        (
            ["photos", "--out", "photos", "--overwrite"],
            "predictions to replace, found no faces.csv",
        ),
        (
            ["photos", "--out", "gone", "--overwrite"],
            "gone: expected predictions to replace, found",
        ),
        (["photos", "--out", "table", "--overwrite"], "found a faces.csv with other columns"),
        (["photos", "--out", "mixed", "--overwrite"], "found notes.txt beside them"),
        (["photos", "--model", "none.onnx"], "none.onnx: no such file"),
        (["photos", "--model", "broken.mp4"], "broken.mp4: expected an ONNX file, got text"),
        (["photos", "--model", "foreign.onnx"], "metadata: ['class_order'"),
        (["photos", "--detector", "yunet.onnx"], "yunet.onnx: expected YuNet's ONNX file, found"),
        (["photos", "--detector", "broken.mp4"], "got text that begins with 'no picture' that"),
        (["photos", "--detector", "other.onnx"], "got an ONNX file that OpenCV cannot run"),
    ],
)
def test_what_is_no_input_model_or_detector_is_said_and_nothing_is_written(
    folder, capfd, arguments, message
):
    before = sorted(folder.rglob("*"))
    assert predict.main(["--model", "tiny.onnx", *arguments]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert sorted(folder.rglob("*")) == before


class FakeYuNet:
    """Sees one face in any picture, shifted a little by each look, and one mostly outside."""

    looks: list[tuple[int, int]]

    @classmethod
    def create(cls, *_, **__):
        cls.looks = []
        return cls()

    def setInputSize(self, size):
        self.looks.append(size)

    def detect(self, bgr):
        height, width = bgr.shape[:2]
        assert (width, height) == self.looks[-1]
        shift = len(self.looks) % 2 / 100
        face = [(0.25 + shift) * width, 0.25 * height, 0.25 * width, 0.5 * height]
        eyes = [0.3 * width, 0.4 * height, 0.45 * width, 0.5 * height]
        outside = [0.9 * width, 0.25 * height, 0.25 * width, 0.25 * height]
        rest, score = [0.0] * 6, 0.9 + shift
        return 1, np.array([b + eyes + rest + [score] for b in (face, outside)], np.float32)


@pytest.mark.parametrize(
    ("size", "looks"),
    [
        ((48, 36), [(320, 240)]),
        ((800, 400), [(320, 160), (800, 400)]),
        ((2000, 1500), [(320, 240), (1280, 960)]),
    ],
)
def test_found_faces_count_once_and_are_levelled_and_cut_as_the_reference_does(
    folder, monkeypatch, size, looks
):
    monkeypatch.setattr(cv2, "FaceDetectorYN", FakeYuNet)
    model, (width, height) = Expressions("tiny.onnx"), size
    photo = blobs(height, width)
    find = FaceFinder(folder / "tiny.onnx", model)
    FakeYuNet.looks.clear()
    (face,) = find(photo)
    assert FakeYuNet.looks == looks
    # The surest of the two looks counts.
    left, top = round(0.26 * width), round(0.25 * height)
    assert face.box == (left, top, round(0.51 * width), round(0.75 * height))
    eyes = [(0.3 * width, 0.4 * height), (0.45 * width, 0.5 * height)]
    np.testing.assert_array_equal(face.image, model.cut(photo, box=face.box, eyes=eyes))
    assert not np.array_equal(face.image, model.cut(photo, box=face.box))


def test_a_photo_without_a_face_is_counted(folder, monkeypatch, caplog):
    monkeypatch.setattr(FakeYuNet, "detect", lambda *_: (1, None))
    monkeypatch.setattr(cv2, "FaceDetectorYN", FakeYuNet)
    assert run("photos/sub/face.png", "--detector", "tiny.onnx") == 0
    assert len(pd.read_csv("predictions/faces.csv")) == 0
    assert "face.png,no face was found" in Path("predictions/rejects.csv").read_text("utf-8")
    assert "1 inputs without a face" in caplog.text


FILES = ["photos/sub/face.png", "clip.avi", "photos/turned.jpg"]


@pytest.mark.parametrize(
    ("number", "left"),
    [
        (1, {"clip.avi": "before it was read", FILES[2]: "before it was read"}),
        (4, {"clip.avi": "after 3 frames", FILES[2]: "before it was read"}),
        (1 + FRAMES, {FILES[2]: "before it was read"}),
        (2 + FRAMES, {}),
    ],
)
def test_ctrl_c_leaves_what_is_not_read_and_the_rest_is_written(
    folder, monkeypatch, capsys, number, left
):
    found = []

    def find(photo):
        found.append(photo)
        if len(found) == number:
            signal.raise_signal(signal.SIGINT)
        return whole_picture(photo)

    monkeypatch.setattr("tools.frames.whole_picture", find)
    assert run(*FILES) == (128 + signal.SIGINT if left else 0)
    assert ("its rejects.csv names" in capsys.readouterr().err) == bool(left)
    table = pd.read_csv("predictions/faces.csv")
    frames = [(FILES[0], 0), *(("clip.avi", k) for k in range(FRAMES)), (FILES[2], 0)]
    assert list(zip(table["file"], table["frame"], strict=True)) == frames[:number]
    rejects = pd.read_csv("predictions/rejects.csv")
    reasons = [f"interrupted {reason}" for reason in left.values()]
    assert rejects.to_numpy().tolist() == [list(row) for row in zip(left, reasons, strict=True)]


@pytest.mark.parametrize("is_early", [False, True])
def test_ctrl_c_ends_a_camera_and_what_it_saw_is_written(folder, monkeypatch, is_early):
    class Camera:
        def __init__(self, source):
            assert source == 0
            if is_early:
                signal.raise_signal(signal.SIGINT)
            self.frames = [blobs(48, 64, seed=k) for k in range(9)]

        def get(self, _):
            return 0.0

        def read(self):
            if len(self.frames) == 7:
                signal.raise_signal(signal.SIGINT)
            return True, self.frames.pop()

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    assert run("0") == (128 + signal.SIGINT if is_early else 0)
    monkeypatch.undo()
    if is_early:
        assert not (folder / "predictions").exists()
        return
    table = pd.read_csv(folder / "predictions/faces.csv")
    assert (table["file"] + table["frame"].astype(str)).tolist() == [
        f"camera 0{k}" for k in range(3)
    ]
    assert len(frames_of(folder / "predictions/annotated/camera0.mp4")) == 3
