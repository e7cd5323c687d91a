"""Files that `python -m tools.evaluate` is given and that are something else."""

from pathlib import Path

import onnx
import pytest

from stages.runtime.errors import UserError
from tools.evaluation import read_rows
from tools.onnx_model import read_onnx


def _unknown_operator() -> bytes:
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    node = onnx.helper.make_node("NoSuchThing", ["x"], ["y"])
    return onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", values[:1], values[1:])
    ).SerializeToString()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer in place of the file"),
        (b"<!doctype html>", "a web page"),
        (_unknown_operator(), "an ONNX file"),
        (_unknown_operator()[:-5], "an ONNX file"),
    ],
)
def test_reported_an_onnx_file_that_is_none_is_called_what_it_is(
    tmp_path: Path, data: bytes, kind: str
) -> None:
    path = tmp_path / "ensemble.onnx"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_onnx(path)
    message = str(caught.value)
    assert message.startswith(f"ensemble.onnx: expected an ONNX file, got {kind}")
    assert "that onnxruntime cannot load: " in message
    assert str(tmp_path) not in message


def test_reported_rows_that_are_no_text_are_refused_in_words(tmp_path: Path) -> None:
    """Such as a spreadsheet."""
    (tmp_path / "rows.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00\n\x80\x81,\n")
    with pytest.raises(UserError, match=r"^rows\.csv: "):
        read_rows(tmp_path / "rows.csv")
