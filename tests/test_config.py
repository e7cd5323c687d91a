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
from small_project import ROOT, change, listed_params, write_params

from stages import config
from stages.config import Folder7Source, load_params, read_yaml
from stages.runtime.errors import UserError

RECIPES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]
SHIPPED = read_yaml(ROOT / "params.yaml")
FOLDERS = {"format": "folder7", "path": "x"}


def edited(tmp_path: Path, **changes: Any) -> Path:
    """The sample recipe with keys replaced, as `stageA__epochs`."""
    write_params(tmp_path, change(copy.deepcopy(SHIPPED), **changes))
    return tmp_path / "params.yaml"


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_params(path)
    return str(caught.value)


def keys_of(value: Any) -> Any:
    return {key: keys_of(part) for key, part in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_value_lives_in_the_recipe_and_nowhere_else(path: Path) -> None:
    """Else it could change between versions without a word, and `-S` would not find its key."""
    for section in vars(config).values():
        if isinstance(section, type) and issubclass(section, config.Section):
            optional = {
                key for key, field in section.model_fields.items() if not field.is_required()
            }
            free = issubclass(section, config.Overrides)
            assert free or optional <= {"licence", "class_folders", *config.View.model_fields}
    stated, effective = read_yaml(path), load_params(path).model_dump(mode="json")
    # A key that a view leaves out is no condition.
    assert effective["manifest"].pop("views")
    stated["manifest"].pop("views")
    assert keys_of(stated) == keys_of(effective)
    assert list(effective["teachers"]) == list(effective["calibrate"]["teachers"])
    for stage in read_yaml(ROOT / "dvc.yaml")["stages"].values():
        for key in listed_params(stage):
            # A KeyError if DVC tracks what is not there.
            for name in stated["teachers"]:
                reduce(getitem, key.replace("${item.teacher}", name).split("."), stated)


# What one types after `-S`, and words of the refusal. A hint names keys that are known there, not
# those of another prior, section or format.
REFUSED = """
stageA.prior.kind=none | stageA.prior.tau: unknown key; known here: ['kind']
preprocess.tiles=8 | preprocess.tiles: unknown key; known here: ['clahe', 'mean', 'std']
standardize.sources.rafdb_basic.label_rule=x | label_rule: unknown key; known here: ['format', 'lic
preprocess.clahe.tile=8 | preprocess.clahe.tile: unknown key; did you mean 'tiles'?
stageA.epochs=true | stageA.epochs: Input should be a valid integer
seed='7' | seed: Input should be a valid integer
stageA.prior.kind=magic | stageA.prior: Input tag 'magic' found
machine.device=gpu | machine.device: String should match
machine.workers=[1] | machine.workers: Input should be a valid integer, got [1]
stageA.min_lr=1.0 | stageA.min_lr: 1 is above learning_rate 0.001
stageA.epochs=0 | stageA.epochs: 0 passes weights through, but init_from names none
stageA.init_from=stageA | stageA.init_from: the first stage cannot start from itself
stageA.batch_size=34; stageA.prior={kind: sampler_fill, min_per_class: 5} | 34 cannot hold 5 of each
stageA.label_smoothing=0.1 | stageA.label_smoothing: 0.1 with prior.kind logit_adjustment:
stageB.label_smoothing=0.1; stageB.prior={kind: class_weights, beta: 0.9} | kind class_weights:
calibrate.teachers=[RN18] | calibrate.teachers: expected each teacher once, ['B3', 'RN18'], got
calibrate.teachers=[RN18, RN18] | calibrate.teachers: expected each teacher once
calibrate.weights={RN18: 1.0} | calibrate.weights: expected one per teacher ['B3', 'RN18']
calibrate.weights={RN18: 0.7, B3: 0.7} | calibrate.weights: must sum to 1, got 1.4
export.soft_labels_view=hq | export.soft_labels_view: 'hq' is no view; known: ['all_train',
manifest.val_share=0.9 | manifest.val_share: val_share + test_share leave no rows for train
manifest.duplicates.near_correlation=0.6 | manifest.duplicates.review_correlation: is above near
manifest.views.hq_train.splits=[] | manifest.views.hq_train.splits: an empty list selects nothing
teachers.B3.pretrained=true; teachers.B3.weights=weights/b3.pt | teachers.B3: pretrained and weights
teachers.B3.weights='' | B3.weights: expected a file below weights/, which DVC watches, with /
teachers.B3.weights=b3.pt | teachers.B3.weights: expected a file below weights/
teachers.B3.weights=weights/ | teachers.B3.weights: expected a file below weights/
teachers.B3.weights=weights/../b3.pt | teachers.B3.weights: expected a file below weights/
teachers.B3.weights=weights\\b3.pt | teachers.B3.weights: expected a file below weights/
teachers.B3.backbone_options={num_classes: 7} | B3.backbone_options.num_classes: the pipeline sets it
teachers.B3.backbone_options={a: {b: 1}} | B3.backbone_options.a: expected a number, text, true, false
teachers.B3.layer_decay=1.1 | teachers.B3.layer_decay: Input should be less than or equal to 1, got 1.1
stageA.filter.exclude_sources=[ferplus] | stageA.filter: ['ferplus'] stand in include
stageA.augmentation.crop_scale=[0.9, 0.5] | stageA.augmentation.crop_scale: expected low <= high
stageA.augmentation.rotation_deg=60 | rotation_deg: Input should be less than or equal to 45, got 60
stageA.augmentation.shift=-0.1 | stageA.augmentation.shift: Input should be greater than or equal to 0
stageB.augmentation.zoom_out=0.6 | zoom_out: Input should be less than or equal to 0.5, got 0.6
stageB.augmentation.blur=1.5 | augmentation.blur: Input should be less than or equal to 1, got 1.5
stageB.warmup_epochs=3 | stageB.warmup_epochs: 3 leaves nothing of 3 epochs
stageA.arcface.ramp_end_epoch=1 | stageA.arcface.ramp_end_epoch: lies before warmup_epochs
standardize.sources.expw_hq={format: fer2013, path: x} | its faces and those of expw are 'expw_hq'
manifest.source_groups.ferplus=[expw_hq] | ferplus: is the name of a source; choose another
teachers.B3.stageB={image_size: 8, epochs: 1.5} | teachers.B3.stageB.image_size: Input should be gr
teachers.B3.stageB={imge_size: 40} | teachers.B3.stageB.imge_size: unknown key; did you mean 'image
teachers.B3.stageB={arcface: {scal: 3}} | teachers.B3.stageB.arcface.scal: unknown key; did you mean
teachers.B3.stageB={prior: {kind: sampler_fill}} | teachers.B3.stageB.prior.min_per_class: missing
teachers.B3.stageB={filter: {min_native_px: 9}} | B3.stageB.filter: holds for all teachers of a stage
teachers.B3.stageB={init_from: null} | teachers.B3.stageB.init_from: holds for all teachers of a
teachers.B3.stageB={epochs: 2, warmup_epochs: 2} | .B3.stageB.warmup_epochs: 2 leaves nothing of 2
teachers.B3.stageA={epochs: 0} | teachers.B3.stageA.epochs: 0 passes weights through, but init_from
teachers.B3.stageA={preprocess: {std: [1.0, 1.0, 1.0]}} | B3.stageB.preprocess: expected the mean and std of stageA, whose
teachers.B3.stageB={preprocess: {clahe: null}} | B3.stageB.preprocess.clahe: expected that of RN18, {
manifest.source_groups.nothing=[] | manifest.source_groups.nothing: an empty list names no source
"""


@pytest.mark.parametrize("row", REFUSED.strip().splitlines())
def test_reported_a_refusal_names_the_key_and_what_is_known_there(tmp_path: Path, row: str) -> None:
    typed, expected = row.split(" | ")
    changes = dict(pair.split("=", 1) for pair in typed.split("; "))
    values = {key.replace(".", "__"): yaml.safe_load(value) for key, value in changes.items()}
    assert expected in message(edited(tmp_path, **values))


def test_options_of_a_backbone_keep_their_types(tmp_path: Path) -> None:
    options = {"a": True, "b": 1, "c": 0.5, "d": "x", "e": [1, 2.0, "y"]}
    path = edited(tmp_path, teachers__B3__backbone_options=options)
    read = load_params(path).teachers["B3"].backbone_options
    assert repr(read) == repr(options | {"e": (1, 2.0, "y")})


def test_a_teacher_has_values_of_its_own_and_all_others_from_the_stage(tmp_path: Path) -> None:
    own = {"ema_decay": None, "arcface": {"scale": 9.0}, "prior": {"kind": "none"}}
    bright = {"mean": [0.5, 0.5, 0.5]}
    own_values = own | {"preprocess": bright}
    path = edited(tmp_path, teachers__B3__stageB=own_values, stageB__init_from=None)
    params = load_params(path)
    expected, expected_input = params.stageB.model_dump(mode="json"), params.preprocess.model_dump()
    stage, preprocess = params.effective("stageB", "B3")
    assert stage.model_dump(mode="json") == expected | own | {
        "arcface": expected["arcface"] | own["arcface"]
    }
    assert preprocess.model_dump() == expected_input | {"mean": (0.5, 0.5, 0.5)}
    for other in (("stageA", "B3"), ("stageB", "RN18")):
        assert params.effective(*other) == (getattr(params, other[0]), params.preprocess)
    # The report shows the keys that differ, and those alone.
    assert params.teachers["B3"].stageB.model_dump(mode="json") == own_values
    # What all teachers of a stage share may differ from the other stage.
    for name in ("RN18", "B3"):
        path = edited(tmp_path, **{f"teachers__{name}__stageA": {"preprocess": {"clahe": None}}})
        assert "preprocess.clahe: expected that of RN18" in message(path)
    plain = {
        f"teachers__{name}__stageA": {"preprocess": {"clahe": None}} for name in ("RN18", "B3")
    }
    assert load_params(edited(tmp_path, **plain))
    # Weights that pass through keep their own input.
    through = plain | {"teachers__B3__stageB": {"epochs": 0}}
    assert "B3.stageB.preprocess.clahe: expected" in message(edited(tmp_path, **through))


def test_reported_a_numbered_folder_may_mean_what_is_no_class(tmp_path: Path) -> None:
    def numbered(meaning: object) -> Path:
        return edited(
            tmp_path, standardize__sources__an=FOLDERS | {"class_folders": {"1": meaning}}
        )

    for meaning in ("Contempt", "none", "Uncertain", "no-face", "unknown", "NF"):
        source = load_params(numbered(meaning)).standardize.sources["an"]
        assert isinstance(source, Folder7Source)
        assert source.class_folders == {"1": meaning}
    for meaning in ("Cntempt", "anger", None):
        assert message(numbered(meaning)) == (
            "params.yaml: standardize.sources.an.class_folders.1: expected one of Angry, Disgust, "
            "Fear, Happy, Sad, Surprise, Neutral, or Contempt, none, uncertain, no-face, unknown "
            f"or NF for what is left out, got {meaning!r}"
        )


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    path = edited(tmp_path, stageA__epochs="many", calibrate__bin=3)
    path.write_text(path.read_text("utf-8").replace("seed:", "sead:"), encoding="utf-8")
    assert sorted(line.partition("; ")[0] for line in message(path).splitlines()) == [
        "params.yaml: calibrate.bin: unknown key",
        "params.yaml: sead: unknown key",
        "params.yaml: seed: missing",
        "params.yaml: stageA.epochs: Input should be a valid integer, got 'many'",
    ]


@pytest.mark.parametrize(
    ("place", "value", "other"),
    [
        ("teachers.rn18", SHIPPED["teachers"]["RN18"], "RN18"),
        ("manifest.views.HQ_Train", {}, "hq_train"),
        ("standardize.sources.FERplus", FOLDERS, "ferplus"),
        ("standardize.sources.EXPW", FOLDERS, "expw"),
        ("standardize.sources.EXPW_HQ", FOLDERS, "expw_hq"),
        ("manifest.source_groups.Expw_Full", ["expw_hq"], "expw_full"),
        ("manifest.source_groups.Expw_HQ", ["expw_lq"], "expw_hq"),
    ],
)
def test_reported_names_that_differ_by_letter_case_alone_are_refused(
    tmp_path: Path, place: str, value: Any, other: str
) -> None:
    path = edited(tmp_path, **{place.replace(".", "__"): value})
    section, _, name = place.rpartition(".")
    problem = message(path)
    assert problem.startswith(f"params.yaml: {section}.")
    assert all(words in problem for words in (f"{name!r}", f"{other!r}", "letter case alone"))
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
