import pytest

from stages.config import CLASSES
from stages.survey.data_warnings import (
    WARNING_COLUMNS,
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
from tests.survey.surveys import frozen_of, index_of, survey_of


def with_counts(rows, counts, *, split="val", official=True):
    return rows(
        {
            "id": f"s/{name}{i}",
            "label": name,
            "split": split,
            "official": split if official else None,
        }
        for name, number in zip(CLASSES, counts, strict=True)
        for i in range(number)
    )


def related(drawn, *, near=()):
    return relations(drawn, frozen_of(drawn, near=near).duplicates)


@pytest.mark.parametrize(
    ("counts", "extent"),
    [
        ([2] * 7, "2 rows"),
        ([1] * 7, None),
        ([5, 5, 5, 5, 5, 4, 6], None),
        ([20, 21, 20, 21, 20, 21, 20], "20 to 21 rows"),
        ([500, 500, 498, 500, 500, 499, 500], "498 to 500 rows"),
        ([500, 520, 480, 500, 500, 510, 490], None),
        ([40, 2, 30, 80, 40, 40, 60], None),
        ([20, 20, 20, 20, 20, 20, 0], None),
    ],
)
def test_incident_D10_classes_more_even_than_chance(rows, counts, extent) -> None:
    found = [
        (code, where, text[: len(extent or "")])
        for code, where, text in exact_balance(with_counts(rows, counts))
    ]
    assert found == ([("exact_balance", "s val", extent)] if extent else [])


def test_balance_is_looked_for_in_the_dataset_s_own_splits_only(rows) -> None:
    assert not list(exact_balance(with_counts(rows, [20] * 7, official=False)))
    assert not list(exact_balance(with_counts(rows, [20] * 7, split="train")))


def test_few_rows_name_the_classes(rows) -> None:
    counts = [30, 29, 30, 31, 0, 30, 30]
    assert list(few_rows(with_counts(rows, counts, split="test", official=False))) == [
        ("few_rows", where, "fewer than 30 rows of a class: Disgust 29, Sad 0")
        for where in ("all test", "s test")
    ]
    assert not list(few_rows(with_counts(rows, [30] * 7)))
    assert not list(few_rows(with_counts(rows, counts, split="train")))


@pytest.mark.parametrize("num_copied", [8, 9])
def test_a_source_that_is_copied_from_another(rows, num_copied) -> None:
    pictures = [f"copy/{i}" if i < num_copied else f"own/{i}" for i in range(10)]
    drawn = rows(
        [{"id": f"copy/{i}", "sha256": picture} for i, picture in enumerate(pictures)]
        + [{"id": f"origin/{i}", "sha256": f"copy/{i}"} for i in range(30)]
    )
    share = "90.0% (9 of 10) of its rows have a duplicate in"
    expected = [
        ("all_copies", "copy", f"{share} the data"),
        ("copied_source", "copy", f"{share} origin"),
    ]
    assert list(copies(drawn, related(drawn))) == (expected if num_copied == 9 else [])


def test_incident_D1_a_source_that_was_read_twice(rows) -> None:
    drawn = rows({"id": f"s/{i:03d}", "sha256": str(i // 2)} for i in range(20))
    ((code, where, message),) = copies(drawn, related(drawn))
    assert (code, where) == ("all_copies", "s")
    assert message.startswith("100.0% (20 of 20)")


def test_near_duplicates_are_copies_too(rows) -> None:
    drawn = rows({"id": f"{source}/{i}"} for source in "st" for i in range(5))
    near = [(f"s/{i}", f"t/{i}", {}) for i in range(5)]
    found = [where for _, where, _ in copies(drawn, related(drawn, near=near))]
    assert found == ["s", "t", "s", "t"]


@pytest.mark.parametrize(
    ("num_enlarged", "num_rows", "native_px", "warned"),
    [
        (20, 20, 224, True),
        (19, 19, 224, False),
        (20, 200, 224, True),
        (20, 201, 224, False),
        (30, 300, 97, True),
        (30, 300, 96, False),
    ],
)
def test_incident_D4_small_pictures_enlarged_under_another_name(
    rows, num_enlarged, num_rows, native_px, warned
) -> None:
    """`big` holds pictures of `small` under its own pixels and, beside them, some of its own."""
    drawn = rows(
        [{"id": f"big/{i:04d}", "native_px": native_px} for i in range(num_rows)]
        + [{"id": f"small/{i:04d}", "native_px": 48} for i in range(300)]
    )
    near = [(f"big/{i:04d}", f"small/{i:04d}", {}) for i in range(num_enlarged)]
    found = list(upscaled_sources(drawn, frozen_of(drawn, near=near).duplicates))
    assert [(code, where) for code, where, _ in found] == [("upscaled_source", "big")] * warned
    assert all(f"({num_enlarged:,} of {num_rows:,})" in message for *_, message in found)


def test_boxes_that_reach_outside() -> None:
    crops = {"none": 5000, "box": 90, "aligned": 8}
    few = index_of("few", crops=crops, rejects={"box_outside": 2})
    many = index_of("many", crops=crops, rejects={"box_outside": 2}, boxes_partly_outside=1)
    ((_, where, message),) = boxes_outside([few, many, index_of("none")])
    assert where == "many"
    assert "3.0% (3 of 100)" in message


def test_incident_D12_boxes_in_photos_that_exif_turns() -> None:
    counts = {"stored": 12, "turned": 0}
    indexes = [index_of("phone", boxes_in_turned_photos=counts), index_of("none")]
    ((_, where, message),) = turned_boxes(indexes)
    assert where == "phone"
    assert message.startswith("12 of its boxes lie in photos that EXIF turns")
    assert "boxes of the stored pixels" in message
    assert "standardized/phone/sheet.png" in message


def test_the_largest_of_large_groups_is_named(rows) -> None:
    sizes = {"small": 100, "large": 101, "larger": 102}
    drawn = rows(
        {"id": f"s/{name}{i}", "group": name} for name, size in sizes.items() for i in range(size)
    )
    ((code, where, message),) = large_groups(drawn)
    assert (code, where) == ("large_group", "larger")
    assert "2 groups of more than 100 rows hold 203 rows" in message
    assert not list(large_groups(drawn[drawn["group"] == "small"]))


@pytest.mark.parametrize(
    ("num_pairs", "num_conflicts", "warned"), [(19, 3, False), (20, 3, True), (30, 3, False)]
)
def test_duplicates_that_disagree_about_the_class(rows, num_pairs, num_conflicts, warned) -> None:
    drawn = rows(
        {"id": f"{source}/{i:02d}", "sha256": str(i)}
        | ({"label": "Sad"} if source == "s" and i < num_conflicts else {})
        for source in "st"
        for i in range(num_pairs)
    )
    found = list(label_conflicts(related(drawn)))
    assert [where for _, where, _ in found] == (["all", "s+t"] if warned else [])
    assert all("15.0% (3 of 20)" in message for *_, message in found)


def test_the_table_has_every_warning(rows) -> None:
    index = index_of(
        "s",
        crops={"none": 0, "box": 1, "aligned": 0},
        boxes_partly_outside=1,
        boxes_in_turned_photos={"stored": 0, "turned": 1},
    )
    table = find_warnings(survey_of(frozen_of(with_counts(rows, [2] * 7)), indexes=[index]))
    expected = ["exact_balance", "few_rows", "few_rows", "boxes_outside", "turned_boxes"]
    assert table["code"].to_list() == expected
    nothing = find_warnings(survey_of(frozen_of(rows([{"id": "s/1"}]))))
    assert nothing.empty
    assert tuple(nothing.columns) == tuple(table.columns) == WARNING_COLUMNS
