import shutil
from pathlib import Path

import pytest

from stages.calibrating.published import Manifest, read_manifest_folder
from stages.exporting.bundle import Bundle, read_bundle
from stages.exporting.seen import seen_ids
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json
from tests.exporting.project import make_project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "models", tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def bundle(models: Path) -> Bundle:
    return read_bundle(models)


@pytest.fixture
def manifest(made: Path) -> Manifest:
    return read_manifest_folder(made / "manifests")


def change_filter(folder: Path, **changes: object) -> None:
    path = folder / "alignmentreport.json"
    report = read_json(path)
    write_json(path, report | {"filter": report["filter"] | changes})


def test_reported_a_row_is_seen_with_its_group_and_by_any_teacher(
    models: Path, bundle: Bundle, manifest: Manifest
) -> None:
    rows = manifest.rows
    few = seen_ids(models, bundle, manifest=manifest)
    train = rows[rows["split"] == "train"]
    groups = set(rows.loc[rows["id"].isin(few) & (rows["split"] == "train"), "group"])
    assert 0 < len(groups) < train["group"].nunique()
    assert set(train.loc[train["group"].isin(groups), "id"]) == few & set(train["id"])
    # Another member that learnt from all train rows makes all of them seen.
    change_filter(models / "stageB" / "B3", max_per_class=None)
    assert set(train["id"]) <= seen_ids(models, bundle, manifest=manifest)


def test_test_rows_are_seen_where_logits_say_so(
    models: Path, bundle: Bundle, manifest: Manifest
) -> None:
    test = manifest.rows[manifest.rows["split"] == "test"]["id"]
    assert seen_ids(models, bundle, manifest=manifest) & set(test) == {test.iloc[0]}


def test_what_the_stage_before_has_learnt_is_seen_too(
    models: Path, bundle: Bundle, manifest: Manifest
) -> None:
    train = set(manifest.rows.loc[manifest.rows["split"] == "train", "id"])
    assert not train <= seen_ids(models, bundle, manifest=manifest)
    before = models / "stageA" / "RN18"
    shutil.copy(models / "stageB" / "RN18" / "teacher.json", before)
    card = read_json(before / "teacher.json")
    write_json(before / "teacher.json", card | {"weights_sha256": "a" * 64, "stage": "stageA"})
    change_filter(before, max_per_class=None)
    assert train <= seen_ids(models, bundle, manifest=manifest)
    write_json(before / "teacher.json", card | {"manifest_sha256": "f" * 64})
    with pytest.raises(UserError, match="stageA/RN18 was trained on another manifest"):
        seen_ids(models, bundle, manifest=manifest)


def test_a_copy_kept_in_a_folder_of_another_name_is_no_matter(
    models: Path, bundle: Bundle, manifest: Manifest
) -> None:
    expected = seen_ids(models, bundle, manifest=manifest)
    shutil.copytree(models / "stageB", models / "kept")
    assert seen_ids(models, bundle, manifest=manifest) == expected
