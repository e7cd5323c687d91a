"""Views and stages of every recipe mean the same rows by the same words."""

from pathlib import Path

import pandas as pd
import pytest
from small_project import ROOT

from stages.config import CLASSES, ExpwSource, Filter, Params, View, load_params
from stages.records.views import select

RECIPES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]
recipes = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def chosen_train_rows(params: Params, rows: Filter) -> set[str]:
    """Ids of the rows for training among one for each combination that a filter could part."""
    sources = [
        name
        for key, source in params.standardize.sources.items()
        for name in ([f"{key}_hq", f"{key}_lq"] if isinstance(source, ExpwSource) else [key])
    ]
    axes = [sources, ("train", "val", "test"), CLASSES, (24, 48, 63, 64, 100, 224), (10.0, 90.0)]
    names = ["source", "split", "label", "native_px", "confidence"]
    frame = pd.MultiIndex.from_product(axes, names=names).to_frame(index=False)
    frame["id"] = [f"{source}/{n}" for n, source in enumerate(frame["source"])]
    splits = rows.splits if isinstance(rows, View) else ("train", "val", "test")
    chosen = select(
        frame, rows, key="x", source_groups=params.manifest.source_groups, splits=splits
    )
    return set(chosen.loc[chosen["split"] == "train", "id"])


@recipes
def test_reported_hq_train_is_what_stage_b_learns_from(path: Path) -> None:
    """It held `expw_lq`, which Stage B leaves out, and soft labels were made of it."""
    params = load_params(path)
    if "hq_train" not in params.manifest.views:
        pytest.skip("no such view")
    assert params.manifest.views["hq_train"].splits == ("train",)
    view = chosen_train_rows(params, params.manifest.views["hq_train"])
    trained = chosen_train_rows(params, params.stageB.filter)
    if params.stageB.epochs:
        assert view == trained
    else:  # Stage A's weights pass through, which have learnt from every row.
        assert view < trained
        assert not [id_ for id_ in view if id_.startswith(("ferplus/", "expw_lq/"))]


@recipes
def test_reported_soft_labels_are_of_rows_that_a_stage_learns_from(path: Path) -> None:
    params = load_params(path)
    view = params.manifest.views[params.export.soft_labels_view]
    # A view that leaves nothing out says by its name that it is all rows.
    if Filter(**view.model_dump(include=set(Filter.model_fields))) == Filter():
        return
    assert view.splits == ("train",)
    stages = (params.stageA, params.stageB)
    learnt = set().union(*(chosen_train_rows(params, stage.filter) for stage in stages))
    assert chosen_train_rows(params, view) <= learnt
