import json
from pathlib import Path

import pytest
import torch
from shipped import shipped
from torch.nn import functional

from stages.config import CLASSES, Filter, Preprocess, TeacherParams
from stages.modeling.card import StartedFrom, TeacherCard, read_card
from stages.modeling.teacher import Teacher, build_teacher, load_state, load_teacher, save_teacher
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


@pytest.mark.parametrize("options", [{}, {"stem_type": "deep", "layers": (1, 1, 1, 2)}])
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, options: dict[str, object]) -> None:
    teacher = _teacher(backbone_options=options).to(memory_format=torch.channels_last)
    card = _card().model_copy(update={"backbone_options": options})
    saved = save_teacher(tmp_path, teacher, card)
    again = save_teacher(tmp_path / "again", teacher, card)
    assert again.weights_sha256 == saved.weights_sha256
    loaded, card = load_teacher(tmp_path)
    images = torch.randn(3, 3, 64, 64)
    assert card == saved
    text = (tmp_path / "teacher.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    # Cards without options are, to the byte, those of versions that knew of none.
    assert ("backbone_options" in text, "mirror" in text) == (bool(options), False)
    assert not loaded.training
    state = teacher.state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in loaded.state_dict().items())
    torch.testing.assert_close(loaded(images), teacher.eval()(images), rtol=1e-4, atol=1e-4)


def test_a_mirror_averaged_teacher_stays_one_and_sees_no_difference(tmp_path: Path) -> None:
    plain, images = _teacher().eval(), torch.randn(3, 3, 64, 64)
    saved = save_teacher(tmp_path, plain, _card().model_copy(update={"mirror_averaged": True}))
    loaded, card = load_teacher(tmp_path)
    assert card == saved
    mean = (plain(images) + plain(images.flip(-1))) / 2
    assert not torch.allclose(mean, plain(images), rtol=0, atol=0.01)
    torch.testing.assert_close(loaded(images), mean)
    torch.testing.assert_close(loaded(images.flip(-1)), mean)
    torch.testing.assert_close(loaded.embed(images), plain.embed(images))


def test_what_was_changed_since_it_was_published_is_refused(tmp_path: Path) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    weights, card = tmp_path / "best.safetensors", tmp_path / "teacher.json"
    data, values = weights.read_bytes(), json.loads(card.read_text())
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(
        UserError, match=r"best\.safetensors: changed .* expected SHA-256 [0-9a-f]{64}"
    ):
        load_teacher(tmp_path)
    without = {name: value for name, value in values.items() if name != "scale"}
    for text, expected in (
        ("{", "not readable JSON"),
        ("[]", "fields missing"),
        (json.dumps(without | {"size": 3}), r"missing or unknown: \['scale', 'size'\]"),
        (
            json.dumps(values | {"image_size": "64", "started_from": {"stage": "stageA"}}),
            r"image_size: .*started_from\.weights_sha256",
        ),
    ):
        card.write_text(text)
        with pytest.raises(UserError, match=rf"teacher\.json: .*{expected}"):
            read_card(tmp_path)


@pytest.mark.parametrize("name", ["best.safetensors", "teacher.json"])
def test_incident_R6_a_missing_file_is_named(tmp_path: Path, name) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing; run the training stage"):
        load_teacher(tmp_path)
    if name == "best.safetensors":
        with pytest.raises(UserError, match=rf"{name}: missing"):
            load_state(_teacher(), tmp_path / name)


@pytest.mark.parametrize("changes", [{"embedding_size": 8}, {"backbone": "test_vit"}])
def test_weights_of_another_architecture_are_an_error(tmp_path: Path, changes) -> None:
    save_teacher(tmp_path, _teacher(), _card())
    with pytest.raises(UserError, match="does not fit"):
        load_state(_teacher(**changes), tmp_path / "best.safetensors")


def test_a_vit_starts_from_weights_of_another_image_size(tmp_path: Path) -> None:
    small = _teacher(backbone="test_vit")
    save_teacher(tmp_path, small, _card())
    large = _teacher(backbone="test_vit", image_size=96)
    load_state(large, tmp_path / "best.safetensors")
    assert torch.equal(large.head.weight, small.head.weight)
    assert large(torch.zeros(2, 3, 96, 96)).shape == (2, 7)


def _teacher(*, image_size: int = 64, **changes: object) -> Teacher:
    torch.manual_seed(1)
    changes = {"backbone": "test_resnet", "embedding_size": 16} | changes
    teacher_params = shipped(TeacherParams, **changes)
    return build_teacher(teacher_params, image_size=image_size, scale=30.0, key="teachers.X")


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
        targets="majority",
        filter=Filter(include_sources=("rafdb_basic",)),
        started_from=StartedFrom(stage="stageA", weights_sha256="b" * 64),
        prior_correction=(0.0,) * 7,
        epoch=3,
        metric={"name": "macro_f1", "split": "val", "n": 10, "value": 0.5},
        fingerprint="f" * 64,
        manifest_sha256="a" * 64,
        training_version=1,
        weights_sha256="",
    )
