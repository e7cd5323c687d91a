import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stages.config import Preprocess
from stages.exporting.calibrated import CalibratedTeacher
from stages.exporting.metadata import describe
from stages.exporting.onnx_file import write_onnx
from stages.modeling.weights import TeacherCard
from stages.preprocessing.model_input import to_model_input
from stages.sources.labels import CLASSES
from tests.exporting.tiny import make_card

CLAHE = {"clip_limit": 2.0, "tiles": 8}


def read_with_onnxruntime_alone(path: Path, bgr: np.ndarray) -> dict[str, float]:
    """What a stranger writes who has the file, OpenCV and numpy, and nothing of this project."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    meta: dict[str, Any] = {key: json.loads(text) for key, text in texts.items()}
    block = meta["preprocess"]
    assert block["color_order"] == "RGB"
    assert block["layout"] == "NCHW"
    face = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    resize = block["resize"]
    if face.shape[:2] != tuple(resize["to"]):
        kind = "shrink" if min(face.shape[:2]) > block["size"] else "enlarge"
        face = cv2.resize(face, resize["to"], interpolation=getattr(cv2, resize[kind]))
    if block["clahe"] is not None:
        assert block["clahe"]["channel"] == "Y of YCrCb"
        y, cr, cb = cv2.split(cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb))
        equalizer = cv2.createCLAHE(block["clahe"]["clip_limit"], block["clahe"]["tiles"])
        face = cv2.cvtColor(cv2.merge([equalizer.apply(y), cr, cb]), cv2.COLOR_YCrCb2RGB)
    low, high = block["value_range"]
    values = low + face / 255 * (high - low)
    values = (values - np.array(block["mean"])) / np.array(block["std"])
    batch = values.transpose(2, 0, 1)[None].astype(np.float32)
    logits, probabilities = session.run(["logits", "probabilities"], {"image": batch})
    scaled = np.exp(logits[0] / meta["temperature"])
    np.testing.assert_allclose(scaled / scaled.sum(), probabilities[0], atol=1e-5)
    return dict(zip(meta["class_order"], probabilities[0].tolist(), strict=True))


@pytest.mark.parametrize("clahe", [None, CLAHE])
@pytest.mark.parametrize("shape", [(32, 32), (100, 80), (24, 20), (24, 100)])
def test_incident_X1_the_file_alone_tells_how_it_is_used(
    tmp_path: Path,
    proto: onnx.ModelProto,
    model: CalibratedTeacher,
    clahe: dict[str, Any] | None,
    shape: tuple[int, int],
) -> None:
    block = Preprocess.model_validate_json(json.dumps({"clahe": clahe}))
    rng = np.random.default_rng(1)
    blobs = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), np.uint8), (0, 0), 2)
    path = tmp_path / "tiny.onnx"
    card = make_card(preprocess=block.model_dump())
    write_onnx(path, proto, metadata=describe([card], weights={"RN18": 1.0}, temperature=1.7))

    found = read_with_onnxruntime_alone(path, cv2.cvtColor(blobs, cv2.COLOR_RGB2BGR))

    image = torch.from_numpy(to_model_input(blobs, size=32, preprocess=block))[None]
    with torch.inference_mode():
        expected = model(image)[1][0].tolist()
    assert tuple(found) == CLASSES
    assert list(found.values()) == pytest.approx(expected, abs=1e-3)
    assert max(expected) - min(expected) > 0.05, "the oracle must be able to tell images apart"


def test_the_origin_of_every_teacher_is_named(card: TeacherCard) -> None:
    other = make_card("B3", weights_sha256="c" * 64)
    meta = describe([card, other], weights={"RN18": 0.7, "B3": 0.3}, temperature=1.4)
    assert meta["weights"] == {"RN18": 0.7, "B3": 0.3}
    assert meta["weights_sha256"] == {"RN18": "b" * 64, "B3": "c" * 64}
    assert meta["teachers"] == {"RN18": "test_resnet", "B3": "test_efficientnet"}
    assert meta["stage"] == "stageB"
    assert meta["manifest_sha256"] == "a" * 64
    assert meta["recipe_version"] == 1
