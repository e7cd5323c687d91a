"""Every recipe is whole and valid, and its views and stages mean the same rows by the same words."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from small_project import ROOT

from stages.config import CLASSES, ExpwSource, Filter, Params, load_params, read_yaml
from stages.records.views import select

RECIPES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]
recipes = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@recipes
def test_a_recipe_is_valid_and_has_every_key_that_dvc_tracks(path: Path) -> None:
    assert set(load_params(path).teachers) == {"RN18", "B3"}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].values()
    tracked = {key for stage in stages for key in stage["params"]}
    for key in tracked - {"teachers.${item.teacher}"}:
        value: Any = read_yaml(path)
        for part in key.split("."):
            assert part in value, key
            value = value[part]


def every_kind_of_row(params: Params) -> pd.DataFrame:
    """A row for each source, split, class, native size and confidence that a filter could part."""
    sources = [
        name
        for key, source in params.standardize.sources.items()
        for name in ([f"{key}_hq", f"{key}_lq"] if isinstance(source, ExpwSource) else [key])
    ]
    axes = [sources, ("train", "val", "test"), CLASSES, (24, 48, 63, 64, 100, 224), (10.0, 90.0)]
    names = ["source", "split", "label", "native_px", "confidence"]
    rows = pd.MultiIndex.from_product(axes, names=names).to_frame(index=False)
    return rows.assign(id=[f"{source}/{n}" for n, source in enumerate(rows["source"])])


def trained_on(params: Params, rows: Filter) -> set[str]:
    groups = params.manifest.source_groups
    chosen = select(every_kind_of_row(params), rows, key="filter", source_groups=groups)
    return set(chosen.loc[chosen["split"] == "train", "id"])


def in_view(params: Params, name: str) -> set[str]:
    view, groups = params.manifest.views[name], params.manifest.source_groups
    rows = every_kind_of_row(params)
    chosen = select(rows, view, key=name, source_groups=groups, splits=view.splits)
    return set(chosen["id"])


@recipes
def test_reported_hq_train_is_what_stage_b_learns_from(path: Path) -> None:
    """It held `expw_lq`, which Stage B leaves out, and soft labels were made of it."""
    params = load_params(path)
    if "hq_train" not in params.manifest.views:
        pytest.skip("no such view")
    view, trained = in_view(params, "hq_train"), trained_on(params, params.stageB.filter)
    if params.stageB.epochs:
        assert view == trained
    else:  # Stage A's weights pass through, which have learnt from every row.
        assert view < trained
        assert not [id_ for id_ in view if id_.startswith(("ferplus/", "expw_lq/"))]


@recipes
def test_reported_soft_labels_are_of_rows_that_a_stage_learns_from(path: Path) -> None:
    params = load_params(path)
    view = params.manifest.views[params.export.soft_labels_view]
    everything = Filter(**view.model_dump(include=set(Filter.model_fields))) == Filter()
    learnt = trained_on(params, params.stageA.filter) | trained_on(params, params.stageB.filter)
    # A view that leaves nothing out says by its name that it is all rows.
    assert everything or in_view(params, params.export.soft_labels_view) <= learnt
