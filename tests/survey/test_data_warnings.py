import pytest

from stages.survey.data_warnings import (
    CODES,
    as_table,
    boxes_outside,
    copies,
    exact_balance,
    few_rows,
    find_warnings,
    label_conflicts,
    large_groups,
    turned_boxes,
    upscaled_sources,
)
from stages.survey.relations import relations
from tests.records.conftest import CLASSES
from tests.survey.surveys import frozen_of, index_of, survey_of


def with_counts(rows, counts, *, source="s", split="val", official=True):
    return rows(
        [
            {"id": f"{source}/{name}{i}", "label": name, "split": split}
            | ({"official": split} if official else {})
            for name, count in zip(CLASSES, counts, strict=True)
            for i in range(count)
        ]
    )


@pytest.mark.parametrize(
    ("counts", "suspicious"),
    [
        ([2] * 7, True),
        ([1] * 7, False),
        ([5, 5, 5, 5, 5, 4, 6], False),
        ([20, 21, 20, 21, 20, 21, 20], True),
        ([500, 500, 498, 500, 500, 499, 500], True),
        ([500, 520, 480, 500, 500, 510, 490], False),
        ([40, 2, 30, 80, 40, 40, 60], False),
        ([20, 20, 20, 20, 20, 20, 0], False),
    ],
)
def test_incident_D10_classes_more_even_than_chance(rows, counts, suspicious) -> None:
    found = list(exact_balance(with_counts(rows, counts)))
    assert [(one.code, one.where) for one in found] == (
        [("exact_balance", "s val")] if suspicious else []
    )
    if suspicious:
        assert str(max(counts)) in found[0].message


def test_balance_is_looked_for_in_the_dataset_s_own_splits_only(rows) -> None:
    assert not list(exact_balance(with_counts(rows, [20] * 7, official=False)))
    assert not list(exact_balance(with_counts(rows, [20] * 7, split="train")))


def test_few_rows_name_the_classes(rows) -> None:
    counts = [30, 29, 30, 31, 0, 30, 30]
    found = list(few_rows(with_counts(rows, counts, split="test", official=False)))
    assert [(one.where, one.message) for one in found] == [
        (where, "fewer than 30 rows of a class: Disgust 29, Sad 0")
        for where in ("all test", "s test")
    ]
    assert not list(few_rows(with_counts(rows, [30] * 7)))
    assert not list(few_rows(with_counts(rows, counts, split="train")))


@pytest.mark.parametrize("num_copied", [8, 9])
def test_a_source_that_is_copied_from_another(rows, num_copied) -> None:
    drawn = rows(
        [
            {"id": f"mine/{i}", "sha256": f"theirs{i}" if i < num_copied else f"own{i}"}
            for i in range(10)
        ]
        + [{"id": f"theirs/{i}", "sha256": f"theirs{i}"} for i in range(30)]
    )
    frozen = frozen_of(drawn)
    found = [(one.code, one.where) for one in copies(drawn, relations(drawn, frozen.duplicates))]
    assert found == ([("all_copies", "mine"), ("copied_source", "mine")] if num_copied == 9 else [])


def test_incident_D1_a_source_that_was_read_twice(rows) -> None:
    drawn = rows([{"id": f"s/{i:03d}", "sha256": str(i // 2)} for i in range(20)])
    (found,) = copies(drawn, relations(drawn, frozen_of(drawn).duplicates))
    assert (found.code, found.where) == ("all_copies", "s")
    assert found.message.startswith("100.0% (20 of 20)")


def test_near_duplicates_are_copies_too(rows) -> None:
    drawn = rows([{"id": f"{source}/{i}"} for source in "st" for i in range(5)])
    near = [(f"s/{i}", f"t/{i}", {}) for i in range(5)]
    frozen = frozen_of(drawn, near=near)
    found = [one.where for one in copies(drawn, relations(drawn, frozen.duplicates))]
    assert found == ["s", "t", "s", "t"]


def enlarged(rows, *, num_enlarged, num_rows, native_px=224):
    """`big` holds pictures of `small` under its own pixels and, beside them, some of its own."""
    drawn = rows(
        [{"id": f"big/{i:04d}", "native_px": native_px} for i in range(num_rows)]
        + [{"id": f"small/{i:04d}", "native_px": 48} for i in range(300)]
    )
    near = [(f"big/{i:04d}", f"small/{i:04d}", {}) for i in range(num_enlarged)]
    return drawn, frozen_of(drawn, near=near).duplicates


@pytest.mark.parametrize(
    ("num_enlarged", "num_rows", "native_px", "warned"),
    [
        (20, 20, 224, True),
        (19, 19, 224, False),
        (20, 200, 224, True),
        (20, 201, 224, False),
        (30, 300, 97, True),
        (30, 300, 96, False),
        (0, 300, 224, False),
    ],
)
def test_incident_D4_small_pictures_enlarged_under_another_name(
    rows, num_enlarged, num_rows, native_px, warned
) -> None:
    found = list(
        upscaled_sources(
            *enlarged(rows, num_enlarged=num_enlarged, num_rows=num_rows, native_px=native_px)
        )
    )
    assert [(one.code, one.where) for one in found] == (
        [("upscaled_source", "big")] if warned else []
    )
    if warned:
        assert f"({num_enlarged:,} of {num_rows:,})" in found[0].message


def test_boxes_that_reach_outside() -> None:
    crops = {"none": 5000, "box": 90, "aligned": 8}
    few = index_of("few", crops=crops, rejects={"box_outside": 2})
    many = index_of("many", crops=crops, rejects={"box_outside": 2}, boxes_partly_outside=1)
    (found,) = boxes_outside([few, many, index_of("none")])
    assert (found.code, found.where) == ("boxes_outside", "many")
    assert "3.0% (3 of 100)" in found.message


def test_incident_D12_boxes_in_photos_that_exif_turns() -> None:
    counts = {"stored": 12, "turned": 0}
    indexes = [index_of("turned", boxes_in_turned_photos=counts), index_of("none")]
    (found,) = turned_boxes(indexes)
    assert (found.code, found.where) == ("turned_boxes", "turned")
    assert found.message.startswith("12 of its boxes lie in photos that EXIF turns")
    assert "boxes of the stored pixels" in found.message
    assert "standardized/turned/sheet.png" in found.message


def test_the_largest_of_large_groups_is_named(rows) -> None:
    sizes = {"small": 100, "large": 101, "larger": 102}
    drawn = rows(
        [{"id": f"s/{name}{i}", "group": name} for name, size in sizes.items() for i in range(size)]
    )
    (found,) = large_groups(drawn)
    assert (found.code, found.where) == ("large_group", "larger")
    assert "2 groups" in found.message
    assert "203 rows" in found.message
    assert not list(large_groups(drawn[drawn["group"] == "small"]))


@pytest.mark.parametrize(("num_pairs", "warned"), [(19, False), (20, True)])
def test_duplicates_that_disagree_about_the_class(rows, num_pairs, warned) -> None:
    specs = [
        {"id": f"{source}/{i:02d}", "sha256": str(i)} for source in "st" for i in range(num_pairs)
    ]
    specs = [
        spec | {"label": "Sad"} if spec["id"] in ("s/00", "s/01", "s/02") else spec
        for spec in specs
    ]
    drawn = rows(specs)
    related = relations(drawn, frozen_of(drawn).duplicates)
    found = list(label_conflicts(related))
    assert [one.where for one in found] == (["all", "s+t"] if warned else [])
    assert all("15.0% (3 of 20)" in one.message for one in found)


def test_agreeing_duplicates_are_fine(rows) -> None:
    drawn = rows(
        [{"id": f"{source}/{i:02d}", "sha256": str(i)} for source in "st" for i in range(30)]
    )
    assert not list(label_conflicts(relations(drawn, frozen_of(drawn).duplicates)))


def test_the_table_has_every_warning_and_only_known_codes(rows) -> None:
    index = index_of(
        "s",
        crops={"none": 0, "box": 1, "aligned": 0},
        boxes_partly_outside=1,
        boxes_in_turned_photos={"stored": 0, "turned": 1},
    )
    found = find_warnings(survey_of(frozen_of(with_counts(rows, [2] * 7)), indexes=[index]))
    expected = ["exact_balance", "few_rows", "few_rows", "boxes_outside", "turned_boxes"]
    assert [one.code for one in found] == expected
    table = as_table(found)
    assert list(table.columns) == ["code", "where", "message"]
    assert set(table["code"]) <= set(CODES)
    assert len(table) == len(found)
    assert list(as_table([]).columns) == list(table.columns)
