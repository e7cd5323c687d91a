import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from stages.config import CLASSES, Preprocess
from stages.config import Teacher as Section
from stages.modeling.teacher import Teacher, build_teacher
from stages.modeling.weights import (
    TeacherCard,
    load_state,
    load_teacher,
    read_card,
    save_teacher,
)
from stages.runtime.errors import UserError


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    teacher = _teacher().to(memory_format=torch.channels_last)
    saved = save_teacher(tmp_path, teacher, _card())
    loaded, card = load_teacher(tmp_path)
    images = torch.randn(3, 3, 64, 64)
    assert card == saved
    assert not loaded.training
    state = teacher.state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in loaded.state_dict().items())
    torch.testing.assert_close(loaded(images), teacher.eval()(images), rtol=1e-4, atol=1e-4)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = {
        save_teacher(tmp_path / name, _teacher(), _card()).weights_sha256 for name in ("a", "b")
    }
    assert len(hashes) == 1


def test_the_card_is_plain_json(tmp_path: Path) -> None:
    card = save_teacher(tmp_path, _teacher(), _card())
    text = (tmp_path / "teacher.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(asdict(card)))
    assert str(tmp_path) not in text


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    path = tmp_path / "best.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        UserError, match=r"best\.safetensors: changed .* expected SHA-256 [0-9a-f]{64}"
    ):
        load_teacher(tmp_path)


@pytest.mark.parametrize("name", ["best.safetensors", "teacher.json"])
def test_a_missing_file_is_named(tmp_path: Path, name) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing; run the training stage"):
        load_teacher(tmp_path)


def test_a_card_with_other_fields_names_them(tmp_path: Path) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    path = tmp_path / "teacher.json"
    values = json.loads(path.read_text())
    del values["scale"]
    path.write_text(json.dumps(values | {"size": 3}))
    with pytest.raises(UserError, match=r"missing or unknown: \['scale', 'size'\]"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "not readable JSON"), ("[]", "fields missing")]
)
def test_a_card_that_is_no_card_is_an_error(tmp_path: Path, text, problem) -> None:
    (tmp_path / "teacher.json").write_text(text)
    with pytest.raises(UserError, match=rf"teacher\.json: {problem}"):
        read_card(tmp_path)


def test_incident_R6_missing_weights_to_start_from_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"RN18/best\.safetensors: missing"):
        load_state(_teacher(), tmp_path / "stageA" / "RN18" / "best.safetensors")


def test_weights_of_another_architecture_are_an_error(tmp_path: Path) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    with pytest.raises(UserError, match="does not fit"):
        load_state(_teacher(embedding_size=8), tmp_path / "best.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        load_state(_teacher(backbone="test_vit"), tmp_path / "best.safetensors")


def test_a_file_that_holds_no_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="expected a state_dict"):
        load_state(_teacher(), tmp_path / "best.safetensors")


def test_a_vit_starts_from_weights_of_another_image_size(tmp_path: Path) -> None:
    small = _teacher(backbone="test_vit")
    save_teacher(tmp_path, small, _card())
    large = build_teacher(
        Section(backbone="test_vit", embedding_size=16), image_size=96, scale=30.0, key="teachers.X"
    )
    load_state(large, tmp_path / "best.safetensors")
    assert torch.equal(large.head.weight, small.head.weight)
    assert large(torch.zeros(2, 3, 96, 96)).shape == (2, 7)


def _teacher(**changes: object) -> Teacher:
    torch.manual_seed(1)
    section = Section(backbone="test_resnet", embedding_size=16).model_copy(update=changes)
    return build_teacher(section, image_size=64, scale=30.0, key="teachers.X")


def _card() -> TeacherCard:
    return TeacherCard(
        teacher="X",
        stage="stageA",
        backbone="test_resnet",
        embedding_size=16,
        dropout=0.0,
        scale=30.0,
        classes=CLASSES,
        image_size=64,
        preprocess=Preprocess().model_dump(mode="json"),
        epoch=3,
        metric={"name": "macro_f1", "split": "val", "n": 10, "value": 0.5},
        fingerprint="f" * 64,
        manifest_sha256="a" * 64,
        recipe_version=1,
        weights_sha256="",
    )
