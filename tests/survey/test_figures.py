from io import BytesIO
from pathlib import Path

import matplotlib.image
import pytest

from stages.records.native_sizes import size_table
from stages.survey.figures import (
    carved_splits,
    duplicates_figure,
    native_px_figure,
    rows_figure,
    write_figures,
)
from stages.survey.plot_data import row_counts
from stages.survey.relations import matrix, relations
from tests.survey.surveys import frozen_of, survey_of


def size_of(png: bytes) -> tuple[int, int]:
    height, width, _ = matplotlib.image.imread(BytesIO(png)).shape
    return width, height


def sources_of(rows, number: int):
    names = [f"a_source_of_a_long_name_{i}" for i in range(number)]
    return rows(
        [
            {"id": f"{name}/{split}{i}", "split": split, "sha256": f"{i}"}
            for name in names
            for split in ("train", "val", "test")
            for i in range(2)
        ]
    )


@pytest.mark.parametrize("number", [1, 10])
def test_the_same_bytes_again_for_one_source_and_for_ten(rows, tmp_path: Path, number: int) -> None:
    survey = survey_of(frozen_of(sources_of(rows, number)))
    for folder in ("first", "again"):
        write_figures(tmp_path / folder, survey)
    names = ["duplicates.png", "native_px.png", "rows.png"]
    for name in names:
        png = (tmp_path / "first" / name).read_bytes()
        assert min(size_of(png)) > 200
        assert png == (tmp_path / "again" / name).read_bytes()
        assert b"Software" not in png
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == names


def test_figures_grow_with_the_sources(rows) -> None:
    few, many = sources_of(rows, 2), sources_of(rows, 9)
    heights = [size_of(rows_figure(row_counts(frame), carved=set()))[1] for frame in (few, many)]
    assert heights[1] > 2.5 * heights[0]
    heights = [size_of(native_px_figure(size_table(frame), stages={}))[1] for frame in (few, many)]
    assert heights[1] > 1.5 * heights[0]


def test_a_number_more_shows(rows) -> None:
    one = sources_of(rows, 1)
    sources = ["a_source_of_a_long_name_0"]
    cells = matrix(relations(one, frozen_of(one).duplicates))
    empty = duplicates_figure(cells.head(0), sources=sources)
    filled = duplicates_figure(cells, sources=sources)
    more = duplicates_figure(cells.assign(pairs=cells["pairs"] + 1), sources=sources)
    assert size_of(empty) == size_of(filled) == size_of(more)
    assert len({empty, filled, more}) == 3


def test_a_split_is_carved_if_the_dataset_has_none(rows) -> None:
    frame = rows(
        [
            {"id": "a/1", "official": "train"},
            {"id": "a/2", "official": "train", "split": "val"},
            {"id": "a/3", "official": "test", "split": "test"},
            {"id": "b/1"},
            {"id": "b/2", "split": "test"},
        ]
    )
    assert carved_splits(frame) == {("a", "val"), ("b", "train"), ("b", "test")}
