import json
from pathlib import Path

import pytest
import torch
from shipped import shipped
from torch.nn import functional

from stages.config import CLASSES, Filter, Preprocess
from stages.config import Teacher as TeacherParams
from stages.modeling.card import StartedFrom, TeacherCard, read_card
from stages.modeling.teacher import Teacher, build_teacher
from stages.modeling.weights import load_state, load_teacher, save_teacher
from stages.runtime.errors import UserError


def test_training_without_margin_is_inference() -> None:
    teacher = _teacher(dropout=0.5).eval()
    images, targets = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 6])
    plain = teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.0)
    assert torch.equal(plain, teacher(images))
    widened = teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.35)
    assert (widened.gather(1, targets[:, None]) < plain.gather(1, targets[:, None])).all()


def test_incident_T2_the_one_head_learns_from_the_first_step() -> None:
    """What warm-up trains, where the margin is still 0, is what is evaluated and exported."""
    teacher = _teacher(dropout=0.5)
    images, targets = torch.randn(8, 3, 64, 64), torch.arange(8) % 7
    logits = teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.0)
    functional.cross_entropy(logits, targets).backward()
    learning = {n for n, p in teacher.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"head.weight", "embedding.1.weight"} <= learning
    with torch.no_grad():
        teacher.head.weight.zero_()
    assert not teacher.eval()(images).any()


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    teacher = _teacher().to(memory_format=torch.channels_last)
    saved = save_teacher(tmp_path, teacher, _card())
    loaded, card = load_teacher(tmp_path)
    images = torch.randn(3, 3, 64, 64)
    assert card == saved
    assert str(tmp_path) not in (tmp_path / "teacher.json").read_text(encoding="utf-8")
    assert not loaded.training
    state = teacher.state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in loaded.state_dict().items())
    torch.testing.assert_close(loaded(images), teacher.eval()(images), rtol=1e-4, atol=1e-4)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = {
        save_teacher(tmp_path / name, _teacher(), _card()).weights_sha256 for name in ("a", "b")
    }
    assert len(hashes) == 1


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


def test_a_card_with_an_impossible_value_names_its_field(tmp_path: Path) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    path = tmp_path / "teacher.json"
    values = json.loads(path.read_text()) | {
        "image_size": "64",
        "started_from": {"stage": "stageA"},
    }
    path.write_text(json.dumps(values))
    with pytest.raises(
        UserError, match=r"teacher\.json: image_size: .*started_from\.weights_sha256"
    ):
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


def test_a_vit_starts_from_weights_of_another_image_size(tmp_path: Path) -> None:
    small = _teacher(backbone="test_vit")
    save_teacher(tmp_path, small, _card())
    large = build_teacher(
        shipped(TeacherParams, backbone="test_vit", embedding_size=16),
        image_size=96,
        scale=30.0,
        key="teachers.X",
    )
    load_state(large, tmp_path / "best.safetensors")
    assert torch.equal(large.head.weight, small.head.weight)
    assert large(torch.zeros(2, 3, 96, 96)).shape == (2, 7)


def _teacher(**changes: object) -> Teacher:
    torch.manual_seed(1)
    teacher_params = shipped(TeacherParams, backbone="test_resnet", embedding_size=16).model_copy(
        update=changes
    )
    return build_teacher(teacher_params, image_size=64, scale=30.0, key="teachers.X")


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
        preprocess=shipped(Preprocess).model_dump(mode="json"),
        filter=Filter(include_sources=("rafdb_basic",)),
        started_from=StartedFrom(stage="stageA", weights_sha256="b" * 64),
        epoch=3,
        metric={"name": "macro_f1", "split": "val", "n": 10, "value": 0.5},
        fingerprint="f" * 64,
        manifest_sha256="a" * 64,
        training_version=1,
        weights_sha256="",
    )
