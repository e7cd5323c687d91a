"""params.yaml is checked whole, before any work, in words that a user can act on."""

import copy
from datetime import date
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from small_project import ROOT, change, write_params

from stages import config
from stages.config import Folder7Source, ParamsError, load_params, read_yaml

RECIPES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]
SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
RN18, EXPW = SHIPPED["teachers"]["RN18"], SHIPPED["standardize"]["sources"]["expw"]
FOLDERS = {"format": "folder7", "path": "x"}


def edited(tmp_path: Path, **changes: Any) -> Path:
    """The sample recipe with keys replaced, as `stageA__epochs`; a section of `...` is left out."""
    data = change(copy.deepcopy(SHIPPED), **changes)
    kept = {name: section for name, section in data.items() if section is not ...}
    write_params(tmp_path, kept)
    return tmp_path / "params.yaml"


def message(path: Path) -> str:
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    return str(caught.value)


def every_section(kind: Any) -> set[type[config.Section]]:
    """Sections below a type, itself included."""
    sections = set(config._sections(kind))
    fields = [field.annotation for section in sections for field in section.model_fields.values()]
    return sections.union(*map(every_section, fields))


def keys_of(value: Any) -> Any:
    return {key: keys_of(part) for key, part in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_value_lives_in_the_recipe_and_nowhere_else(path: Path) -> None:
    """Else it could change between versions without a word, and `-S` would not find its key."""
    optional = {
        f"{section.__name__}.{name}"
        for section in every_section(config.Params)
        for name, field in section.model_fields.items()
        if not field.is_required() and name not in {"licence", *config.View.model_fields}
    }
    assert optional == {"Folder7Source.class_folders"}
    stated, effective = read_yaml(path), load_params(path).model_dump(mode="json")
    # A key that a view leaves out is no condition.
    assert effective["manifest"].pop("views")
    stated["manifest"].pop("views")
    assert keys_of(stated) == keys_of(effective)
    assert set(effective["teachers"]) == {"RN18", "B3"}
    stages = read_yaml(ROOT / "dvc.yaml")["stages"].values()
    for key in {key for stage in stages for key in stage["params"]} - {"teachers.${item.teacher}"}:
        reduce(getitem, key.split("."), stated)  # a KeyError if DVC tracks what is not there


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stageA__learing_rate": 0.1}, "params.yaml: stageA.learing_rate: unknown key; did you mean 'learning_rate'?"),
        # Keys of another prior, of another section, and of a format that is not this source's.
        ({"stageA__prior": {"kind": "none", "tau": 1.0}}, "stageA.prior.tau: unknown key; known here: ['kind']"),
        ({"preprocess__tiles": 8}, "preprocess.tiles: unknown key; known here: ['clahe', 'mean', 'std']"),
        ({"standardize__sources__rafdb_basic__label_rule": "majority"}, "rafdb_basic.label_rule: unknown key; known here: ['format', 'licence', 'path']"),
        ({"machine__learning_rat": 1}, "machine.learning_rat: unknown key; known here: ['checkpoint_minutes', "),
        ({"stageA__prior": {"kind": "class_weights", "bata_": 0.9}}, "stageA.prior.bata_: unknown key; did you mean 'beta'?"),
        ({"preprocess__clahe__tile": 8}, "preprocess.clahe.tile: unknown key; did you mean 'tiles'?"),
        ({"manifest__views__hq_train__gates": True}, "hq_train.gates: unknown key; did you mean 'gate'?"),
    ],
)  # fmt: skip
def test_reported_a_hint_names_a_key_that_is_known_there(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in message(edited(tmp_path, **changes))


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    path = edited(tmp_path, stageA__epochs="many", calibrate__bin=3)
    path.write_text(path.read_text("utf-8").replace("seed:", "sead:"), encoding="utf-8")
    lines = message(path).splitlines()
    assert len(lines) == 4
    assert "params.yaml: seed: missing" in lines
    assert "params.yaml: sead: unknown key; did you mean 'seed'?" in lines
    assert any("stageA.epochs" in line and "'many'" in line for line in lines)


def numbered(meaning: object) -> dict[str, Any]:
    return {"standardize__sources__an": FOLDERS | {"class_folders": {"1": meaning}}}


def test_reported_a_numbered_folder_may_mean_what_is_no_class(tmp_path: Path) -> None:
    for meaning in ("Contempt", "none", "Uncertain", "no-face", "unknown", "NF"):
        source = load_params(edited(tmp_path, **numbered(meaning))).standardize.sources["an"]
        assert isinstance(source, Folder7Source)
        assert source.class_folders == {"1": meaning}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stageA__epochs": 2.5}, "stageA.epochs: Input should be a valid integer"),
        ({"stageA__epochs": True}, "stageA.epochs: Input should be a valid integer"),
        ({"seed": "7"}, "seed: Input should be a valid integer"),
        (numbered("Cntempt"), "an.class_folders.1: expected one of Angry, Disgust, Fear, Happy, Sad, Surprise, Neutral, or Contempt, none, uncertain, no-face, unknown or NF for what is left out, got 'Cntempt'"),
        (numbered(None), "sources.an.class_folders.1: expected one of Angry"),
        (numbered("anger"), "sources.an.class_folders.1: expected one of Angry"),
        ({"stageA__prior": {"kind": "magic"}}, "stageA.prior"),
        ({"machine__device": "gpu"}, "machine.device"),
        ({"stageA__min_lr": 1.0}, "stageA.min_lr: 1 is above learning_rate 0.001"),
        ({"stageA__epochs": 0}, "stageA.epochs: 0 passes weights through, but init_from names none"),
        ({"stageA__init_from": "stageA"}, "stageA.init_from: the first stage cannot start from itself"),
        ({"stageA__prior": {"kind": "sampler_fill", "min_per_class": 5}}, "stageA.batch_size: 32 cannot hold 5 of each of 7 classes; expected at least 35"),
        ({"stageA__label_smoothing": 0.1}, "stageA.label_smoothing: 0.1 with prior.kind logit_adjustment: "),
        ({"stageB__label_smoothing": 0.1, "stageB__prior": {"kind": "class_weights", "beta": 0.99}}, "stageB.label_smoothing: 0.1 with prior.kind class_weights: "),
        ({"calibrate__weights": {"RN18": 1.0}}, "calibrate.weights: expected one per teacher ['B3', 'RN18']"),
        ({"calibrate__weights": {"RN18": 0.7, "B3": 0.7}}, "calibrate.weights: must sum to 1, got 1.4"),
        ({"export__soft_labels_view": "hq"}, "export.soft_labels_view: 'hq' is no view; known: "),
        ({"manifest__val_share": 0.5, "manifest__test_share": 0.5}, "leave no rows for train"),
        ({"manifest__duplicates__near_correlation": 0.6}, "manifest.duplicates.review_correlation: is above near"),
        ({"manifest__views__hq_train__splits": []}, "manifest.views.hq_train.splits: an empty list selects nothing"),
        ({"teachers__B3__pretrained": True, "teachers__B3__weights": "b3.pt"}, "teachers.B3: pretrained and weights"),
        *(
            ({"teachers__B3__weights": path}, "teachers.B3.weights: expected a file below weights/, which DVC watches, with /, got")
            for path in ("", "b3.pt", "/weights/b3.pt", "weights/../b3.pt", "weights\\b3.pt", "weights/")
        ),
        ({"stageA__filter__exclude_sources": ["ferplus"]}, "stageA.filter: ['ferplus'] stand in include"),
        ({"stageA__augmentation__crop_scale": [0.9, 0.5]}, "stageA.augmentation.crop_scale: expected low <= high"),
        ({"stageB__warmup_epochs": 3}, "stageB.warmup_epochs: 3 leaves nothing of 3 epochs"),
        ({"stageA__arcface__ramp_end_epoch": 1}, "stageA.arcface.ramp_end_epoch: lies before warmup_epochs"),
        ({"standardize__sources__expw_hq": FOLDERS}, "standardize.sources.expw_hq: its faces and those of expw are 'expw_hq'"),
        ({"manifest__source_groups": {"ferplus": ["expw_hq"]}}, "manifest.source_groups.ferplus: is the name of a source; choose another"),
        ({"manifest__source_groups__nothing": []}, "manifest.source_groups.nothing: an empty list names no source"),
    ],
)  # fmt: skip
def test_impossible_values_are_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in message(edited(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "section", "name", "other"),
    [
        ({"teachers__rn18": RN18}, "teachers", "rn18", "RN18"),
        ({"manifest__views__HQ_Train": {}}, "manifest.views", "HQ_Train", "hq_train"),
        ({"standardize__sources__FERplus": FOLDERS}, "standardize.sources", "FERplus", "ferplus"),
        ({"standardize__sources__EXPW": FOLDERS}, "standardize.sources", "EXPW", "expw"),
        ({"standardize__sources__EXPW_HQ": FOLDERS}, "standardize.sources", "EXPW_HQ", "expw_hq"),
        ({"standardize__sources__EXPW": EXPW}, "standardize.sources", "EXPW_lq", "expw_lq"),
        ({"manifest__source_groups__Expw_Full": []}, "manifest.source_groups", "Expw_Full", "expw_full"),
        ({"manifest__source_groups__Expw_HQ": []}, "manifest.source_groups", "Expw_HQ", "expw_hq"),
    ],
)  # fmt: skip
def test_reported_names_that_differ_by_letter_case_alone_are_refused(
    tmp_path: Path, changes: dict[str, Any], section: str, name: str, other: str
) -> None:
    lines = message(edited(tmp_path, **changes)).splitlines()
    (line,) = [line for line in lines if f"{name!r}" in line and "letter case" in line]
    assert line.startswith(f"params.yaml: {section}.")
    assert f"{other!r}" in line
    # Names of two kinds may be alike.
    alike = {"manifest__source_groups__expw": ["expw_hq"], "manifest__views__EXPW": {}}
    assert load_params(edited(tmp_path, **alike)).manifest.views


def test_a_missing_file_and_unreadable_yaml_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    assert "params.yaml: no such file" in message(path)
    for data, expected in (
        (b"a: 1\na: 2\n", 'line 2, column 1: found duplicate key "a"'),
        (b"a: [1\n", "not valid YAML"),
        (b"a: \xff\n", "not valid YAML"),
        (b"- 1\n", "expected a mapping of sections, got list"),
    ):
        path.write_bytes(data)
        assert expected in message(path)
        assert "\n" not in message(path)


SCALARS = "1e-4 1e-05 1E5 1.5e+3 0.1 .5 5. 1 -3 +7 010 true True yes no on off null ~ 'text' 1_000 0x10 1:30 2020-01-31"


def test_scalars_are_read_as_dvc_reads_them_and_a_date_may_be_text(tmp_path: Path) -> None:
    text = "".join(f"v{n}: {scalar}\n" for n, scalar in enumerate(SCALARS.split()))
    path = tmp_path / "scalars.yaml"
    path.write_text(text, encoding="utf-8")
    for ours, theirs in zip(read_yaml(path).values(), parse_yaml(text, "").values(), strict=True):
        assert (type(ours), ours) == (type(theirs), theirs)
    params = load_params(edited(tmp_path, standardize__sources__expw__licence=date(2020, 1, 31)))
    assert params.standardize.sources["expw"].licence == "2020-01-31"
