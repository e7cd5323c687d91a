"""reference.py against what training does to a picture, what it refuses, and as a lone script."""

import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shipped import shipped

from stages.config import CLASSES, Preprocess
from stages.exporting import reference
from stages.exporting.checks import torch_answers
from stages.exporting.onnx_file import Answers, CalibratedModel, to_int8, write_onnx
from stages.exporting.reference import Expressions
from stages.faces.decode import MAX_ANGLE, BoxPx, decode, encode_png
from stages.faces.model_input import to_model_input
from stages.intake.crop import crop_upright
from stages.intake.pictures import Framing
from tests.exporting.tiny import CLAHE, SIZE, describe_tiny
from tests.intake.test_pictures import read_picture

FRAMING = Framing(margin=0.3, max_side_px=100, detector=None)
# A Python 3.8 or later with numpy, OpenCV and onnxruntime 1.14 or later.
OLD_PYTHON = os.environ.get("OLD_PYTHON", "")
SOURCE = Path(reference.__file__)
BOX = (40, 30, 90, 95)


def blobs(height: int, width: int, *, seed: int = 1) -> np.ndarray:
    """A photo (RGB) whose colours and edges differ from place to place."""
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 2)


PHOTO = blobs(150, 190)
PNG = encode_png(PHOTO)


def boxes() -> st.SearchStrategy[tuple[int, ...]]:
    """Boxes in, around and outside PHOTO, some without area."""
    starts, sizes = st.integers(-40, 200), st.integers(-1, 120)
    corners = st.tuples(starts, starts, sizes, sizes)
    return corners.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))


@pytest.fixture(scope="module")
def session(path):
    """A model of faces that were cut along the axes."""
    return Expressions(path)


@pytest.fixture(scope="module")
def levelled(path, tmp_path_factory):
    model = Expressions(path)
    model.metadata = describe_tiny(tmp_path_factory.mktemp("levelled"), crop="aligned")
    return model


def expected(
    model: CalibratedModel, faces: list[np.ndarray], clahe: dict[str, Any] | None = CLAHE
) -> Answers:
    """What torch says, by the way that training takes."""
    how = shipped(Preprocess, clahe=clahe)
    batch = np.stack([to_model_input(face, size=SIZE, preprocess=how) for face in faces])
    return torch_answers(model, torch.from_numpy(batch))


@pytest.mark.parametrize("clahe", [None, CLAHE])
def test_incident_X1_faces_give_the_probabilities_of_the_training_side(path, model, clahe):
    session = Expressions(path)
    if clahe is None:
        session.metadata["preprocess"]["clahe"] = None
    shapes = [(32, 32), (90, 80), (24, 20), (24, 99)]
    faces = [blobs(*shape, seed=k) for k, shape in enumerate(shapes)]
    wanted, numbers = expected(model, faces, clahe)
    # Arrays of any memory order are taken.
    for arrays in (faces, [np.asfortranarray(face) for face in faces]):
        labels, probabilities = session.predict(arrays)
        np.testing.assert_allclose(probabilities, wanted, atol=1e-5)
        assert labels == [CLASSES[number] for number in numbers]
    assert tuple(session.classes) == CLASSES
    assert np.ptp(wanted, axis=0).max() > 0.02, "the oracle must be able to tell faces apart"


def cut_or_none(cut: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return cut()
    except ValueError:  # UnusableImageError is one, too
        return None


@given(box=boxes())
def test_a_box_is_cut_or_refused_as_in_training(session, box):
    framing = replace(FRAMING, max_side_px=10_000)
    wanted = cut_or_none(lambda: decode(read_picture(PNG, box=BoxPx(*box), framing=framing).image))
    np.testing.assert_array_equal(cut_or_none(lambda: session.cut(PHOTO, box=box)), wanted)


@given(box=boxes(), angle=st.integers(-600, 600).map(lambda tenths: tenths / 10))
def test_a_face_is_levelled_as_in_training_or_cut_along_the_axes_if_too_steep(levelled, box, angle):
    turned = np.radians(angle)
    eyes = [(50.0, 40.0), (50 + 3000 * np.cos(turned), 40 + 3000 * np.sin(turned))]
    wanted = cut_or_none(
        lambda: (
            crop_upright(PHOTO, box=BoxPx(*box), margin=0.3, angle=angle)
            if abs(angle) <= MAX_ANGLE
            else levelled.cut(PHOTO, box=box)
        )
    )
    actual = cut_or_none(lambda: levelled.cut(PHOTO, box=box, eyes=eyes))
    np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize(
    ("face", "got"),
    [
        (PHOTO / 255, r"float64 \(150, 190, 3\)"),
        (PHOTO.astype(np.uint16) * 257, r"uint16 \(150, 190, 3\)"),
        (PHOTO[:, :, 0], r"uint8 \(150, 190\)"),
        (np.dstack([PHOTO, PHOTO[:, :, 0]]), r"uint8 \(150, 190, 4\)"),
        (PHOTO.transpose(2, 0, 1), r"uint8 \(3, 150, 190\)"),
        (PHOTO[:0], r"uint8 \(0, 190, 3\)"),
        (PHOTO.tolist(), "list"),
        (None, "NoneType"),
    ],
)
def test_reported_other_arrays_than_uint8_rgb_are_refused(session, face, got):
    with pytest.raises(ValueError, match=rf"face: expected RGB .* uint8 array .*, got {got}"):
        session.predict([face])
    with pytest.raises(ValueError, match=rf"photo: expected RGB .* uint8 array .*, got {got}"):
        session.cut(face, box=BOX)


def test_reported_no_face_at_all_is_refused(session, tmp_path, proto):
    with pytest.raises(ValueError, match="faces: expected at least one face, got none"):
        session.predict([])
    with pytest.raises(ValueError, match=r"face: expected RGB .*, got uint8 \(190, 3\)"):
        session.predict(PHOTO)  # one face where several are expected
    # Nor what is no box, eyes for faces that were never levelled, and another kind of file.
    for box in [(40.0, 30, 90, 95), (40, 30, 90), (40, 30, 90, float("nan"))]:
        with pytest.raises(ValueError, match="box: expected four whole numbers"):
            session.cut(PHOTO, box=box)
    with pytest.raises(ValueError, match="were not levelled"):
        session.cut(PHOTO, box=BOX, eyes=[(50, 40), (80, 50)])
    write_onnx(tmp_path / "tiny.onnx", proto, metadata={"temperature": 1.0})
    with pytest.raises(ValueError, match="metadata_version: expected 2, got None"):
        Expressions(tmp_path / "tiny.onnx")


@pytest.mark.parametrize("data", [b"", b"<html></html>", b"\x89PNG\r\n\x1a\n"])
def test_reported_a_file_that_is_no_picture_is_said_to_be_none(tmp_path, path, capfd, data):
    (tmp_path / "face.png").write_bytes(data)
    for name in ("face.png", "nothing.png"):
        with pytest.raises(SystemExit, match="2"):
            reference.main([str(path), str(tmp_path / name)])
    assert f"face.png: expected a picture, got {len(data)} bytes" in capfd.readouterr().err


@pytest.mark.parametrize("orientation", [1, 6])
def test_reported_box_counts_in_the_picture_as_shown_and_it_is_said(
    tmp_path, path, session, capsys, orientation
):
    exif, stored = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.fromarray(PHOTO).save(stored, "JPEG", quality=95, exif=exif.tobytes())
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(stored.getvalue())
    assert reference.main([str(path), str(picture), "--box", *map(str, BOX)]) == 0
    printed = capsys.readouterr()
    decoded = np.asarray(Image.open(picture).convert("RGB"))
    shown = np.rot90(decoded, -1) if orientation == 6 else decoded
    (label,), (wanted,) = session.predict([session.cut(np.ascontiguousarray(shown), box=BOX)])
    said = json.loads(printed.out)
    assert list(said["probabilities"].values()) == pytest.approx(wanted.tolist(), abs=2e-3)
    assert said["label"] == label
    assert ("photo.jpg: turned as its EXIF data say" in printed.err) == (orientation == 6)
    shapes = "as shown (150 x 190 px), not as stored (190 x 150 px)"
    assert (shapes in printed.err) == (orientation == 6)
    # Without a box nothing depends on it.
    assert reference.main([str(path), str(picture)]) == 0
    assert capsys.readouterr().err == ""


def test_incident_X4_the_script_runs_alone(tmp_path, path, model):
    (tmp_path / "reference.py").write_bytes(SOURCE.read_bytes())
    (tmp_path / "übung.png").write_bytes(PNG)
    # -I: neither this project nor the current folder can be imported.
    command = [sys.executable, "-I", "reference.py", str(path), "übung.png"]
    done = subprocess.run(
        [*command, "--box", *map(str, BOX)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    stored = read_picture(PNG, box=BoxPx(*BOX), framing=FRAMING)
    (wanted,), (number,) = expected(model, [decode(stored.image)])
    said = json.loads(done.stdout)
    values = dict(zip(CLASSES, wanted, strict=True))
    assert said["probabilities"] == pytest.approx(values, abs=1e-5)
    assert said["label"] == CLASSES[number]


def test_reported_the_script_is_python_3_8():
    text = SOURCE.read_text("utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    # Annotations are text there, and types are named nowhere else.
    assert "from __future__ import annotations" in text
    typing = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(typing.test) == "TYPE_CHECKING"
    tree.body.remove(typing)
    modules = set()
    # zip(strict=), and methods and functions that came later.
    later = "strict slots kw_only removeprefix removesuffix is_relative_to with_stem readlink"
    later += " bit_count lcm ulp nextafter pairwise add_note aiter anext ExceptionGroup"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules |= {(getattr(node, "module", None) or n.name).split(".")[0] for n in node.names}
        names = {getattr(node, key, None) for key in ("arg", "attr", "id")}
        assert not names & set(later.split())
    assert modules - set(sys.stdlib_module_names) == {"numpy", "cv2", "onnxruntime"}


@pytest.mark.skipif(not OLD_PYTHON, reason="set OLD_PYTHON to a Python 3.8 with onnxruntime 1.14")
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_reported_the_script_runs_on_an_old_python_and_onnxruntime(
    tmp_path, session, proto, variant
):
    made = to_int8(proto) if variant == "int8" else proto
    write_onnx(tmp_path / "tiny.onnx", made, metadata=session.metadata)
    (tmp_path / "reference.py").write_bytes(SOURCE.read_bytes())
    cv2.imwrite(str(tmp_path / "photo.png"), PHOTO)
    command = ["reference.py", "tiny.onnx", "photo.png", "--box", *map(str, BOX)]
    old, new = (
        json.loads(subprocess.check_output([python, *command], cwd=tmp_path))
        for python in (OLD_PYTHON, sys.executable)
    )
    assert old["probabilities"] == pytest.approx(new["probabilities"], abs=1e-4)
    assert old["label"] == new["label"]
