"""params.yaml is checked whole, before any work, in words that a user can act on."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from stages.config import ParamsError, load_params, read_yaml

ROOT = Path(__file__).parents[1]
RECIPES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def edited(tmp_path: Path, **changes: Any) -> Path:
    """The sample recipe with dotted keys replaced; the value `...` removes the key."""
    data = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        section = data
        for part in parents:
            section = section[part]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(data).replace("e-05", ".0e-5"), encoding="utf-8")
    return path


def message(path: Path) -> str:
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    return str(caught.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path) -> None:
    params = load_params(path)
    assert set(params.teachers) == {"RN18", "B3"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_state_every_key(path: Path) -> None:
    # A default that applies unseen could change between versions without a word in the params.
    stated, effective = read_yaml(path), load_params(path).model_dump(mode="json")
    views = effective["manifest"].pop("views")
    stated["manifest"].pop("views")
    assert stated.keys() == effective.keys()
    for name in set(effective) - {"teachers"}:
        if isinstance(effective[name], dict):
            assert stated[name].keys() == effective[name].keys(), name
    assert views


def test_misspelt_key_is_named_with_a_suggestion(tmp_path: Path) -> None:
    path = edited(tmp_path, stageA__learing_rate=0.1)
    assert (
        "params.yaml: stageA.learing_rate: unknown key; did you mean 'learning_rate'?"
        in message(path)
    )


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    path = edited(tmp_path, stageA__epochs="many", seed=..., calibrate__bin=3)
    lines = message(path).splitlines()
    assert len(lines) == 3
    assert "params.yaml: seed: missing" in lines
    assert any("stageA.epochs" in line and "'many'" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stageA__epochs": 2.5}, "stageA.epochs: Input should be a valid integer"),
        ({"stageA__epochs": True}, "stageA.epochs: Input should be a valid integer"),
        ({"seed": "7"}, "seed: Input should be a valid integer"),
        ({"stageA__image_size": 8}, "stageA.image_size"),
        ({"standardize__sources": {}}, "standardize.sources"),
        ({"stageA__prior": {"kind": "magic"}}, "stageA.prior"),
        ({"machine__device": "gpu"}, "machine.device"),
        ({"stageA__min_lr": 1.0}, "stageA.min_lr: 1 is above learning_rate 0.001"),
        ({"stageA__epochs": 0}, "stageA.epochs: 0 passes weights through, but init_from names none"),
        ({"stageA__init_from": "stageA"}, "stageA.init_from: the first stage cannot start from itself"),
        (
            {"stageA__prior": {"kind": "sampler_fill", "min_per_class": 5}},
            "stageA.batch_size: 32 cannot hold 5 of each of 7 classes; expected at least 35",
        ),
        ({"stageA__label_smoothing": 0.1}, "stageA.label_smoothing: 0.1 with prior.kind logit_adjustment: "),
        (
            {"stageB__label_smoothing": 0.1, "stageB__prior": {"kind": "class_weights", "beta": 0.99}},
            "stageB.label_smoothing: 0.1 with prior.kind class_weights: ",
        ),
        ({"calibrate__weights": {"RN18": 1.0}}, "calibrate.weights: expected one per teacher ['B3', 'RN18']"),
        ({"calibrate__weights": {"RN18": 0.7, "B3": 0.7}}, "calibrate.weights: must sum to 1, got 1.4"),
        ({"export__soft_labels_view": "hq"}, "export.soft_labels_view: 'hq' is no view; known: "),
        ({"manifest__val_share": 0.5, "manifest__test_share": 0.5}, "leave no rows for train"),
        ({"teachers__B3__pretrained": True, "teachers__B3__weights": "b3.pt"}, "teachers.B3: pretrained and weights"),
        ({"teachers__B3__weights": "b3.pt"}, "teachers.B3.weights: expected a file below weights/, which DVC watches"),
        ({"teachers__B3__weights": "/weights/b3.pt"}, "teachers.B3.weights: expected a file below weights/"),
        ({"teachers__B3__weights": "weights/../b3.pt"}, "teachers.B3.weights: expected a file below weights/"),
        ({"teachers__B3__weights": "weights\\b3.pt"}, "teachers.B3.weights: expected a file below weights/, which DVC watches, with /, got"),
        ({"teachers__B3__weights": "weights/"}, "teachers.B3.weights: expected a file below weights/"),
        ({"stageA__filter__exclude_sources": ["ferplus"]}, "stageA.filter: ['ferplus'] stand in include"),
        ({"stageA__augmentation__crop_scale": [0.9, 0.5]}, "stageA.augmentation.crop_scale: expected low <= high"),
        ({"stageB__warmup_epochs": 3}, "stageB.warmup_epochs: 3 leaves nothing of 3 epochs"),
        ({"stageA__arcface__ramp_end_epoch": 1}, "stageA.arcface.ramp_end_epoch: lies before warmup_epochs"),
        ({"standardize__sources__expw_hq": {"format": "folder7", "path": "x"}}, "standardize.sources.expw_hq: its faces and those of expw are 'expw_hq'"),
        ({"manifest__source_groups": {"ferplus": ["expw_hq"]}}, "manifest.source_groups.ferplus: is the name of a source; choose another"),
    ],
)  # fmt: skip
def test_impossible_values_are_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in message(edited(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "duplicate key 'a'"),
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping of sections, got list"),
    ],
)
def test_unreadable_yaml_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert expected in message(path)
    assert "\n" not in message(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "params.yaml: no such file" in message(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "scalar",
    "1e-4 1e-05 1E5 1.5e+3 0.1 .5 5. 1 -3 +7 010 true True yes no on off null ~ 'text' 1_000 0x10 1:30".split(),
)
def test_scalars_are_read_as_dvc_reads_them(tmp_path: Path, scalar: str) -> None:
    text = f"value: {scalar}\n"
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    theirs = parse_yaml(io.StringIO(text).read(), str(path))["value"]
    ours = read_yaml(path)["value"]
    assert (type(ours), ours) == (type(theirs), theirs)
