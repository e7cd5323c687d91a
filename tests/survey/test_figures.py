from pathlib import Path

import matplotlib.image

from stages.survey.counts import row_counts
from stages.survey.figures import carved_splits, rows_figure, write_figures
from tests.survey.surveys import frozen_of, specs, survey_of

NAMES = ["duplicates.png", "native_px.png", "rows.png"]


def frozen(rows, number: int, *, near=()):
    drawn = rows(
        {"id": f"a_source_of_a_long_name_{n}/{split}{i}", "split": split, "sha256": f"{i}"}
        for n in range(number)
        for split in ("train", "val", "test")
        for i in range(2)
    )
    return frozen_of(drawn, near=near)


def test_figures_grow_with_the_sources_and_a_number_more_shows(rows, tmp_path: Path) -> None:
    pair = ("a_source_of_a_long_name_0/train0", "a_source_of_a_long_name_0/train1", {})
    drawn = {"one": frozen(rows, 1), "more": frozen(rows, 1, near=[pair])}
    drawn |= {"nine": frozen(rows, 9), "again": frozen(rows, 9)}
    for folder, manifest in drawn.items():
        write_figures(tmp_path / folder, survey_of(manifest))
    assert sorted(path.name for path in (tmp_path / "nine").iterdir()) == NAMES
    for name in NAMES:
        png = {folder: (tmp_path / folder / name).read_bytes() for folder in drawn}
        assert png["nine"] == png["again"]
        assert b"Software" not in png["nine"]
        assert (png["one"] != png["more"]) == (name == "duplicates.png")
        few, many = (matplotlib.image.imread(tmp_path / f / name).shape for f in ("one", "nine"))
        assert min(few[:2]) > 200
        assert many[0] > 1.5 * few[0]


def test_a_split_is_carved_if_the_dataset_has_none(rows) -> None:
    own = specs(
        "a/1 official=train", "a/2 official=train split=val", "a/3 official=test split=test"
    )
    frame = rows([*own, *specs("b/1", "b/2 split=test")])
    carved = carved_splits(frame)
    assert carved == {("a", "val"), ("b", "train"), ("b", "test")}
    axis = rows_figure(row_counts(frame), carved=carved).axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["train", "val, carved", "test", "train", "test, carved"]
