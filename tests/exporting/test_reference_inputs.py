"""What reference.py takes and refuses, what a box refers to, and which Python it needs."""

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from stages.exporting import reference
from stages.exporting.onnx_file import write_onnx
from stages.exporting.reference import Expressions, read_picture
from stages.exporting.variants import to_int8
from tests.exporting.test_reference import PHOTO

SOURCE = Path(reference.__file__)
# A Python 3.8 or later with numpy, OpenCV and onnxruntime 1.14 or later.
OLD_PYTHON = os.environ.get("OLD_PYTHON", "")


@pytest.fixture(scope="module")
def session(path: Path) -> Expressions:
    return Expressions(path)


@pytest.mark.parametrize(
    ("face", "found"),
    [
        (PHOTO / 255, r"float64 \(150, 190, 3\)"),
        (PHOTO.astype(np.float32), r"float32 \(150, 190, 3\)"),
        (PHOTO.astype(np.uint16) * 257, r"uint16 \(150, 190, 3\)"),
        (PHOTO.astype(np.int64), r"int64 \(150, 190, 3\)"),
        (PHOTO > 127, r"bool \(150, 190, 3\)"),
        (PHOTO[:, :, 0], r"uint8 \(150, 190\)"),
        (PHOTO[:, :, :1], r"uint8 \(150, 190, 1\)"),
        (np.dstack([PHOTO, PHOTO[:, :, 0]]), r"uint8 \(150, 190, 4\)"),
        (PHOTO.transpose(2, 0, 1), r"uint8 \(3, 150, 190\)"),
        (PHOTO[:0], r"uint8 \(0, 190, 3\)"),
        (PHOTO.tolist(), "list"),
        (None, "NoneType"),
    ],
)
def test_reported_other_arrays_than_uint8_rgb_are_refused(
    session: Expressions, face: np.ndarray, found: str
) -> None:
    with pytest.raises(ValueError, match=rf"face: expected RGB .* uint8 array .*, got {found}"):
        session.probabilities([face])
    with pytest.raises(ValueError, match=rf"photo: expected RGB .* uint8 array .*, got {found}"):
        session.cut(face, box=(40, 30, 90, 95))


def test_reported_no_face_at_all_is_refused(session: Expressions) -> None:
    with pytest.raises(ValueError, match="faces: expected at least one face, got none"):
        session.probabilities([])
    with pytest.raises(ValueError, match=r"face: expected RGB .*, got uint8 \(190, 3\)"):
        session.probabilities(PHOTO)  # one face where several are expected


def test_views_of_any_memory_order_are_taken(session: Expressions) -> None:
    expected = session.probabilities([PHOTO])
    for same in (np.asfortranarray(PHOTO), PHOTO[:, :, ::-1].copy()[:, :, ::-1]):
        np.testing.assert_array_equal(session.probabilities([same]), expected)


@pytest.mark.parametrize("box", [(40.0, 30, 90, 95), (40, 30, 90), (40, 30, 90, float("nan"))])
def test_a_box_of_other_than_four_whole_numbers_is_refused(
    session: Expressions, box: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="box: expected four whole numbers"):
        session.cut(PHOTO, box=box)


@pytest.mark.parametrize("data", [b"", b"<html></html>", b"\x89PNG\r\n\x1a\n"])
def test_reported_a_file_that_is_no_picture_is_said_to_be_none(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    picture = tmp_path / "face.png"
    picture.write_bytes(data)
    with pytest.raises(ValueError, match=rf"face\.png: expected a picture, got {len(data)} bytes"):
        read_picture(picture)
    with pytest.raises(SystemExit, match="2"):
        reference.main([str(path), str(picture)])
    assert "face.png: expected a picture" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        reference.main([str(path), str(tmp_path / "nothing.png")])


@pytest.mark.parametrize("orientation", [1, 6])
def test_reported_box_counts_in_the_picture_as_shown_and_it_is_said(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str], orientation: int
) -> None:
    exif, stored = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.fromarray(PHOTO).save(stored, "JPEG", quality=95, exif=exif.tobytes())
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(stored.getvalue())
    box = (40, 30, 90, 95)
    assert reference.main([str(path), str(picture), "--box", *map(str, box)]) == 0
    said = capsys.readouterr()
    decoded = np.asarray(Image.open(picture).convert("RGB"))
    shown = np.rot90(decoded, -1) if orientation == 6 else decoded
    session = Expressions(path)
    expected = session.probabilities([session.cut(np.ascontiguousarray(shown), box=box)])[0]
    assert list(json.loads(said.out).values()) == pytest.approx(expected.tolist(), abs=2e-3)
    if orientation == 1:
        assert said.err == ""
    else:
        assert "photo.jpg: turned as its EXIF data say" in said.err
        assert "as shown (150 x 190 px), not as stored (190 x 150 px)" in said.err
    # Without a box nothing depends on it.
    assert reference.main([str(path), str(picture)]) == 0
    assert capsys.readouterr().err == ""


def test_reported_the_script_is_python_3_8() -> None:
    text = SOURCE.read_text("utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    # Annotations are text there, and types are named nowhere else.
    assert "from __future__ import annotations" in text
    typing = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(typing.test) == "TYPE_CHECKING"
    tree.body.remove(typing)
    for node in ast.walk(tree):
        # zip(strict=), and methods and functions that came later.
        if isinstance(node, ast.keyword):
            assert node.arg not in ("strict", "slots", "kw_only")
        if isinstance(node, ast.Attribute):
            assert node.attr not in (
                "removeprefix", "removesuffix", "is_relative_to", "with_stem", "readlink",
                "bit_count", "lcm", "ulp", "nextafter", "pairwise", "add_note",
            )  # fmt: skip
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("aiter", "anext", "ExceptionGroup")


@pytest.mark.skipif(not OLD_PYTHON, reason="set OLD_PYTHON to a Python 3.8 with onnxruntime 1.14")
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_reported_the_script_runs_on_an_old_python_and_onnxruntime(
    tmp_path: Path, path: Path, proto: onnx.ModelProto, variant: str
) -> None:
    made = tmp_path / "tiny.onnx"
    metadata = Expressions(path).metadata
    write_onnx(made, to_int8(proto) if variant == "int8" else proto, metadata=metadata)
    (tmp_path / "reference.py").write_bytes(SOURCE.read_bytes())
    cv2.imwrite(str(tmp_path / "photo.png"), PHOTO)
    command = ["reference.py", "tiny.onnx", "photo.png", "--box", "40", "30", "90", "95"]
    found = [
        json.loads(subprocess.check_output([python, *command], cwd=tmp_path))
        for python in (OLD_PYTHON, sys.executable)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-4)
