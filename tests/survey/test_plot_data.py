import pandas as pd

from stages.survey.plot_data import native_px_counts, reject_counts, row_counts, write_plot_data
from tests.records.conftest import CLASSES
from tests.survey.surveys import frozen_of, index_of, survey_of


def test_rows_have_each_class_of_each_split_in_its_order(rows) -> None:
    drawn = rows(
        [
            {"id": "b/1", "split": "test", "label": "Sad"},
            {"id": "b/2", "label": "Fear"},
            {"id": "a/1", "split": "val"},
            {"id": "a/2"},
            {"id": "a/3"},
        ]
    )
    table = row_counts(drawn)
    places = [("a", "train"), ("a", "val"), ("b", "train"), ("b", "test")]
    assert list(zip(table["source"], table["split"], table["label"], strict=True)) == [
        (*place, name) for place in places for name in CLASSES
    ]
    filled = table[table["rows"] > 0]
    assert filled["rows"].to_list() == [2, 1, 1, 1]
    assert filled["label"].to_list() == ["Happy", "Happy", "Fear", "Sad"]


def test_incident_D4_small_faces_of_a_stage_show_by_source(rows) -> None:
    drawn = rows(
        [{"id": f"fer2013_uniform/{i}", "native_px": 48} for i in range(3)]
        + [{"id": "rafdb_basic/1", "native_px": 100}]
    )
    table = native_px_counts(dict(survey_of(frozen_of(drawn), stages=["stageB"]).stages))
    filled = table[table["rows"] > 0]
    assert filled.to_dict("list") == {
        "selection": ["stageB", "stageB"],
        "source": ["fer2013_uniform", "rafdb_basic"],
        "bucket": ["48_63", "96_127"],
        "rows": [3, 1],
    }
    assert len(table) == 2 * 9


def test_rejects_by_reason() -> None:
    indexes = [index_of("a", rejects={"row_malformed": 1, "image_missing": 2}), index_of("b")]
    assert reject_counts(indexes).to_dict("list") == {
        "source": ["a", "a"],
        "reason": ["image_missing", "row_malformed"],
        "rows": [2, 1],
    }


def test_four_files_whose_numbers_agree(rows, tmp_path) -> None:
    drawn = rows([{"id": f"{source}/{i}", "sha256": f"{i}"} for source in "ab" for i in range(3)])
    frozen = frozen_of(drawn, near=[("a/0", "a/1", {})], excluded={"b/2": "twin_in_val"})
    write_plot_data(tmp_path, survey_of(frozen, indexes=[index_of("a", rejects={"box_empty": 3})]))
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.iterdir()}
    assert set(tables) == {"rows", "native_px", "duplicates", "rejects"}
    assert tables["rows"]["rows"].sum() == len(frozen.rows) == 5
    sizes = tables["native_px"].groupby("selection")["rows"].sum()
    assert sizes.to_dict() == {"manifest": 5, "stageA": 5}
    pairs = tables["duplicates"].set_index(["source_a", "source_b", "kind"])["pairs"]
    assert pairs.to_dict() == {
        ("a", "a", "near"): 1, ("a", "b", "exact"): 3, ("a", "b", "near"): 2, ("b", "b", "near"): 1,
    }  # fmt: skip
    assert tables["rejects"]["rows"].to_list() == [3]


def test_without_duplicates_and_rejects_there_are_headers(rows, tmp_path) -> None:
    write_plot_data(tmp_path, survey_of(frozen_of(rows([{"id": "a/1"}]))))
    assert (tmp_path / "duplicates.csv").read_text() == "source_a,source_b,kind,pairs,same_label\n"
    assert (tmp_path / "rejects.csv").read_text() == "source,reason,rows\n"
