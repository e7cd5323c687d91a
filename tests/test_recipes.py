"""Views and stages of every recipe mean the same rows by the same words."""

from pathlib import Path

import pandas as pd
import pytest
from small_project import ROOT

from stages.config import CLASSES, ExpwSource, Filter, Params, View, load_params
from stages.records.views import select

SPLITS = ("train", "val", "test")


def chosen_train_rows(params: Params, rows: Filter) -> set[str]:
    """Ids of the rows for training among one for each combination that a filter could part."""
    sources = [
        name
        for key, source in params.standardize.sources.items()
        for name in ([f"{key}_hq", f"{key}_lq"] if isinstance(source, ExpwSource) else [key])
    ]
    axes = [sources, SPLITS, CLASSES, (24, 48, 63, 64, 100, 224), (10.0, 90.0)]
    names = ["source", "split", "label", "native_px", "confidence"]
    frame = pd.MultiIndex.from_product(axes, names=names).to_frame(index=False)
    frame["id"] = [f"{source}/{n}" for n, source in enumerate(frame["source"])]
    splits, groups = getattr(rows, "splits", SPLITS), params.manifest.source_groups
    chosen = select(frame, rows, key="x", source_groups=groups, splits=splits)
    return set(chosen.loc[chosen["split"] == "train", "id"])


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("recipes/*.yaml"))])
def test_reported_hq_train_and_soft_labels_are_of_rows_that_a_stage_learns_from(path: Path) -> None:
    """`hq_train` held `expw_lq`, which Stage B leaves out, and soft labels were made of it."""
    params = load_params(path)
    of_a, of_b = (chosen_train_rows(params, each.filter) for each in (params.stageA, params.stageB))
    if (view := params.manifest.views.get("hq_train")) is not None:
        assert view.splits == ("train",)
        chosen = chosen_train_rows(params, view)
        # Without epochs Stage A's weights pass through, which have learnt from every row.
        assert chosen == of_b if params.stageB.epochs else chosen < of_b
        assert not [id_ for id_ in chosen if id_.startswith(("ferplus/", "expw_lq/"))]
    view = params.manifest.views[params.export.soft_labels_view]
    # A view that leaves nothing out says by its name that it is all rows.
    if view != View(splits=view.splits, gate=view.gate):
        assert view.splits == ("train",)
        assert chosen_train_rows(params, view) <= of_a | of_b
