"""reference.py against what training does to a picture, and as a script among strangers."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.calibrating.calibration import Calibration
from stages.config import CLASSES, Preprocess
from stages.exporting import reference
from stages.exporting.metadata import Cut, describe
from stages.exporting.onnx_file import CalibratedModel, write_onnx
from stages.exporting.reference import Expressions
from stages.faces.decode import BoxPx, UnusableImageError, decode, encode_png
from stages.faces.model_input import to_model_input
from stages.intake.crop import crop_upright
from stages.intake.pictures import Framing
from tests.exporting.tiny import SIZE, make_card
from tests.intake.test_pictures import read_picture

FRAMING = Framing(margin=0.3, max_side_px=100, detector=None)
CLAHE = {"clip_limit": 2.0, "tiles": 8}
FERPLUS_ZIP = os.environ.get("FERPLUS_ZIP", "")


def blobs(height: int, width: int, *, seed: int = 1) -> np.ndarray:
    """A photo (RGB) whose colours and edges differ from place to place."""
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 2)


PHOTO = blobs(150, 190)


def boxes() -> st.SearchStrategy[tuple[int, ...]]:
    """Boxes in, around and outside PHOTO, some without area."""
    starts, sizes = st.integers(-40, 200), st.integers(-1, 120)
    corners = st.tuples(starts, starts, sizes, sizes)
    return corners.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))


@pytest.fixture(scope="module")
def along_axes(path: Path) -> Expressions:
    return Expressions(path)


@pytest.fixture(scope="module")
def levelled(path: Path) -> Expressions:
    model = Expressions(path)
    crops = {"none": 0, "box": 0, "aligned": 3}
    calibration = Calibration((1.0,), 1.7)
    model.metadata = describe(
        [make_card()], calibration=calibration, cut=Cut(0.3, 100, crops), opset=18
    )
    return model


def expected(
    model: CalibratedModel, faces: list[np.ndarray], clahe: dict[str, Any] | None = CLAHE
) -> np.ndarray:
    """(N, 7), by the way that training takes."""
    how = Preprocess.model_validate_json(json.dumps({"clahe": clahe}))
    batch = np.stack([to_model_input(face, size=SIZE, preprocess=how) for face in faces])
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(batch))[1])


@pytest.mark.parametrize("clahe", [None, CLAHE])
def test_incident_X1_faces_give_the_probabilities_of_the_training_side(
    path: Path, model: CalibratedModel, clahe: dict[str, Any] | None
) -> None:
    session = Expressions(path)
    if clahe is None:
        session.metadata["preprocess"]["clahe"] = None
    faces = [
        blobs(*shape, seed=k) for k, shape in enumerate([(32, 32), (90, 80), (24, 20), (24, 99)])
    ]
    wanted = expected(model, faces, clahe)
    np.testing.assert_allclose(session.probabilities(faces), wanted, atol=1e-5)
    assert tuple(session.classes) == CLASSES
    assert np.ptp(wanted, axis=0).max() > 0.02, "the oracle must be able to tell faces apart"


@pytest.mark.parametrize(
    "box", [(40, 30, 90, 95), (-10, -8, 40, 60), (0, 0, 190, 150), (185, 20, 192, 29)]
)
def test_a_photo_and_a_box_give_what_standardize_and_training_make_of_them(
    along_axes: Expressions, model: CalibratedModel, box: tuple[int, int, int, int]
) -> None:
    stored = decode(read_picture(encode_png(PHOTO), box=BoxPx(*box), framing=FRAMING).image)
    actual = along_axes.probabilities([along_axes.cut(PHOTO, box=box)])
    np.testing.assert_allclose(actual, expected(model, [stored]), atol=1e-5)


@given(box=boxes())
def test_a_box_is_cut_or_refused_as_in_training(
    along_axes: Expressions, box: tuple[int, ...]
) -> None:
    try:
        picture = read_picture(
            encode_png(PHOTO), box=BoxPx(*box), framing=replace(FRAMING, max_side_px=10_000)
        )
    except UnusableImageError:
        with pytest.raises(ValueError, match="box"):
            along_axes.cut(PHOTO, box=box)
        return
    np.testing.assert_array_equal(along_axes.cut(PHOTO, box=box), decode(picture.image))


@given(
    box=boxes(),
    angle=st.integers(-450, 450).map(lambda tenths: tenths / 10),
)
def test_a_face_is_levelled_as_in_training(
    levelled: Expressions, box: tuple[int, ...], angle: float
) -> None:
    turned = np.radians(angle)
    eyes = [(50.0, 40.0), (50 + 3000 * np.cos(turned), 40 + 3000 * np.sin(turned))]
    try:
        wanted = crop_upright(PHOTO, box=BoxPx(*box), margin=0.3, angle=angle)
    except UnusableImageError:
        with pytest.raises(ValueError, match="box"):
            levelled.cut(PHOTO, box=box, eyes=eyes)
        return
    np.testing.assert_array_equal(levelled.cut(PHOTO, box=box, eyes=eyes), wanted)


def test_a_tilt_beyond_those_of_training_is_cut_along_the_axes(levelled: Expressions) -> None:
    box = (40, 30, 90, 95)
    steep = levelled.cut(PHOTO, box=box, eyes=[(50, 40), (52, 60)])
    np.testing.assert_array_equal(steep, levelled.cut(PHOTO, box=box))


def test_eyes_are_refused_where_faces_were_never_levelled(along_axes: Expressions) -> None:
    with pytest.raises(ValueError, match="were not levelled"):
        along_axes.cut(PHOTO, box=(40, 30, 90, 95), eyes=[(50, 40), (80, 50)])


def test_a_file_that_does_not_say_how_it_is_used_is_refused(
    tmp_path: Path, proto: onnx.ModelProto
) -> None:
    write_onnx(tmp_path / "tiny.onnx", proto, metadata={"temperature": 1.0})
    with pytest.raises(ValueError, match="metadata_version: expected 1, got None"):
        Expressions(tmp_path / "tiny.onnx")


@pytest.mark.skipif(
    not FERPLUS_ZIP, reason="set FERPLUS_ZIP to the generated FERPlus folders (zip)"
)
def test_incident_X3_real_faces_give_the_probabilities_of_the_training_side(
    along_axes: Expressions, model: CalibratedModel
) -> None:
    with zipfile.ZipFile(FERPLUS_ZIP) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))[::97][:300]
        faces = [decode(archive.read(name)) for name in names]
    np.testing.assert_allclose(along_axes.probabilities(faces), expected(model, faces), atol=1e-3)
    assert len(faces) == 300


def test_incident_X4_the_script_runs_alone(
    tmp_path: Path, path: Path, model: CalibratedModel
) -> None:
    script = tmp_path / "reference.py"
    script.write_bytes(Path(reference.__file__).read_bytes())
    picture = tmp_path / "übung.png"
    picture.write_bytes(encode_png(PHOTO))
    # -I: neither this project nor the current folder can be imported.
    command = [sys.executable, "-I", str(script), str(path), str(picture)]
    done = subprocess.run(
        [*command, "--box", "40", "30", "90", "95"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    stored = read_picture(encode_png(PHOTO), box=BoxPx(40, 30, 90, 95), framing=FRAMING)
    wanted = expected(model, [decode(stored.image)])[0]
    assert json.loads(done.stdout) == pytest.approx(
        dict(zip(CLASSES, wanted, strict=True)), abs=1e-5
    )


def test_the_script_needs_nothing_but_numpy_opencv_and_onnxruntime() -> None:
    tree = ast.parse(Path(reference.__file__).read_text("utf-8"))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert modules - set(sys.stdlib_module_names) == {"numpy", "cv2", "onnxruntime"}
