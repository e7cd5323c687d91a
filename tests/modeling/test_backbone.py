from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from shipped import shipped

from stages.config import TeacherParams
from stages.modeling.backbone import build_backbone
from stages.runtime.errors import UserError

KEY = "teachers.X"
SMALL, SMALL_VIT = "test_resnet", "test_vit"


@pytest.mark.parametrize(
    ("name", "image_size"),
    [(SMALL, 64), (SMALL_VIT, 160), ("efficientnet_b3", 64), ("mobilenetv3_small_050", 96)],
)
def test_any_timm_backbone_is_built_for_its_size(name, image_size) -> None:
    backbone, num_features = build_backbone(
        shipped(TeacherParams, backbone=name), image_size=image_size, key=KEY
    )
    features = backbone.eval()(torch.zeros(2, 3, image_size, image_size))
    assert features.shape == (2, num_features)


@pytest.mark.parametrize("options", [{}, {"drop_path_rate": 0.3, "stem_type": "deep"}])
def test_the_trial_leaves_the_backbone_untouched(options) -> None:
    torch.manual_seed(1)
    teacher_params = shipped(TeacherParams, backbone=SMALL, backbone_options=options)
    backbone, _ = build_backbone(teacher_params, image_size=64, key=KEY)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    fresh = timm.create_model(SMALL, num_classes=0, **options)
    assert torch.rand(1) == drawn
    assert backbone.training
    state = fresh.state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backbone": "resnet81"}, r"X\.backbone: timm has no model 'resnet81'.*'resnet18'"),
        ({"backbone": "resnet18.a1_in2k"}, "has no model .*'resnet18.a1_in1k'"),
        ({"backbone": "efficientformer_l1"}, "'efficientformer_l1' does not take 64 px images"),
        (
            {"backbone": "xcit_nano_12_p16_224", "image_size": 50},
            r"X\.backbone: .* take 50 px .* even",
        ),
        (
            {"backbone": SMALL, "backbone_options": {"drop_rate": 0.1, "no_such": 1}},
            r"X\.backbone_options\.no_such: expected what timm's 'test_resnet' takes.*found 1: Type",
        ),
        # Refused by a step of training alone.
        (
            {"backbone": SMALL, "backbone_options": {"drop_path_rate": 2.0}},
            r"X\.backbone_options\.drop_path_rate: .*found 2\.0: RuntimeError: bernoulli_",
        ),
        (
            {"backbone": SMALL, "backbone_options": {"global_pool": ""}},
            r"X\.backbone_options\.global_pool: .*features must be \(1, F\)",
        ),
        (
            {"backbone": "coatnet_0_224", "pretrained": True},
            r"teachers\.X\.pretrained: timm has no weights",
        ),
        ({"backbone": SMALL, "pretrained": True}, r"could not be fetched.*teachers\.X\.weights"),
        ({"backbone": SMALL, "weights": "none.pt"}, r"X\.weights: expected a weights file"),
    ],
)
def test_what_cannot_be_built_says_why(tmp_path, monkeypatch, changes, expected) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    changes = dict(changes)
    image_size = changes.pop("image_size", 64)
    with pytest.raises(UserError, match=expected):
        build_backbone(shipped(TeacherParams, **changes), image_size=image_size, key=KEY)


@pytest.mark.parametrize(("suffix", "num_classes"), [("safetensors", 0), ("pt", 11)])
def test_weights_come_from_a_file_whatever_its_classifier(tmp_path, suffix, num_classes) -> None:
    source = timm.create_model(SMALL, num_classes=num_classes)
    path = _save(tmp_path / f"weights.{suffix}", source.state_dict())
    backbone, _ = _built(SMALL, path)
    state = source.state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in backbone.state_dict().items())


def test_positions_of_a_vit_are_fitted_to_its_image_size(tmp_path) -> None:
    source = timm.create_model(SMALL_VIT, num_classes=0, img_size=160)
    path = _save(tmp_path / "weights.safetensors", source.state_dict())
    backbone, _ = _built(SMALL_VIT, path, image_size=64)
    assert backbone.pos_embed.shape[1] < source.pos_embed.shape[1]
    assert torch.equal(backbone.norm.weight, source.norm.weight)


def test_reported_a_teacher_says_it_in_the_words_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"no weights")
    expected = r"^params\.yaml: teachers\.X\.weights: w\.pt: expected a state_dict"
    with pytest.raises(UserError, match=expected):
        _built(SMALL, tmp_path / "w.pt")


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = timm.create_model(SMALL, num_classes=0).state_dict()
    state |= {next(iter(state)): torch.zeros(1), "stranger": torch.zeros(1)}
    dropped = [name for name in state if name.startswith("layer4")]
    for name in dropped:
        del state[name]
    path = _save(tmp_path / "weights.safetensors", state)
    expected = rf"does not fit: {len(dropped)} missing: layer4.* 1 unknown: stranger; 1 misshapen: "
    with pytest.raises(UserError, match=rf"{expected}.*got \(1,\)"):
        _built(SMALL, path)


def _built(name: str, path: Path, *, image_size: int = 64):
    teacher_params = shipped(TeacherParams, backbone=name, weights=str(path))
    return build_backbone(teacher_params, image_size=image_size, key=KEY)


def _save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path
