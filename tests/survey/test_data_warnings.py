"""Each kind of warning on both sides of its threshold."""

import pandas as pd
import pytest

from stages.config import CLASSES
from stages.survey.data_warnings import find_warnings
from tests.survey.surveys import frozen_of, index_of, survey_of


def warned(code: str, drawn: pd.DataFrame, *, near=(), indexes=None) -> dict[str, str]:
    """The messages of a kind of warning by what they are about."""
    table = find_warnings(survey_of(frozen_of(drawn, near=near), indexes=indexes))
    return table[table["code"] == code].set_index("where")["message"].to_dict()


def with_counts(rows, counts, *, split="val", official="val"):
    return rows(
        {"id": f"s/{name}{i}", "label": name, "split": split, "official": official}
        for name, number in zip(CLASSES, counts, strict=True)
        for i in range(number)
    )


@pytest.mark.parametrize(
    ("counts", "official", "extent"),
    [
        ([2] * 7, "val", "2 rows"),
        ([1] * 7, "val", None),
        ([5, 5, 5, 5, 5, 4, 6], "val", None),
        ([20, 21, 20, 21, 20, 21, 20], "val", "20 to 21 rows"),
        ([500, 520, 480, 500, 500, 510, 490], "val", None),
        # Only the dataset's own val and test are looked at.
        ([20] * 7, None, None),
        ([20] * 7, "train", None),
    ],
)
def test_incident_D10_classes_more_even_than_chance(rows, counts, official, extent) -> None:
    warnings = warned("exact_balance", with_counts(rows, counts, official=official))
    assert list(warnings) == (["s val"] if extent else [])
    assert all(message.startswith(f"{extent} of each class") for message in warnings.values())


def test_few_rows_name_the_classes(rows) -> None:
    counts = [30, 29, 30, 31, 0, 30, 30]
    message = "fewer than 30 rows of a class: Disgust 29, Sad 0"
    few = warned("few_rows", with_counts(rows, counts, split="test"))
    assert few == {"all test": message, "s test": message}
    assert not warned("few_rows", with_counts(rows, counts, split="train"))


@pytest.mark.parametrize("num_copied", [8, 9])
def test_a_source_that_is_copied_from_another(rows, num_copied) -> None:
    """With its pixels, or near them."""
    pixels = [{"sha256": f"{i}"} if 0 < i < num_copied else {} for i in range(10)]
    copy = [{"id": f"copy/{i}"} | own for i, own in enumerate(pixels)]
    drawn = rows([*copy, *({"id": f"origin/{i}", "sha256": f"{i}"} for i in range(30))])
    for code, where in {"all_copies": "the data", "copied_source": "origin"}.items():
        message = f"90.0% (9 of 10) of its rows have a duplicate in {where}"
        expected = {"copy": message} if num_copied == 9 else {}
        assert warned(code, drawn, near=[("copy/0", "origin/0", 0.95, False)]) == expected


@pytest.mark.parametrize(
    ("num_enlarged", "num_rows", "native_px", "is_warned"),
    [
        (19, 19, 224, False),
        (20, 200, 97, True),
        (20, 200, 96, False),
        (20, 201, 224, False),
    ],
)
def test_incident_D4_small_pictures_enlarged_under_another_name(
    rows, num_enlarged, num_rows, native_px, is_warned
) -> None:
    """`big` holds pictures of `small` under its own pixels and, beside them, some of its own."""
    drawn = rows(
        [{"id": f"big/{i:04d}", "native_px": native_px} for i in range(num_rows)]
        + [{"id": f"small/{i:04d}", "native_px": 48} for i in range(300)]
    )
    near = [(f"big/{i:04d}", f"small/{i:04d}", 0.95, False) for i in range(num_enlarged)]
    warnings = warned("upscaled_source", drawn, near=near)
    assert list(warnings) == ["big"] * is_warned
    assert all(f"({num_enlarged} of {num_rows})" in message for message in warnings.values())


def test_incident_D12_boxes_outside_their_photo_and_in_photos_that_exif_turns(rows) -> None:
    known = {"crops": {"none": 5000, "box": 90, "aligned": 8}, "rejects": {"box_outside": 2}}
    turned = {"boxes_in_turned_photos": {"stored": 12, "turned": 0}}
    indexes = {"few": index_of(**known), "phone": index_of(**turned)}
    indexes["many"] = index_of(**known, boxes_partly_outside=1)
    outside, turned = (
        warned(code, rows([{"id": "s/1"}]), indexes=indexes)
        for code in ("boxes_outside", "turned_boxes")
    )
    assert (list(outside), list(turned)) == (["many"], ["phone"])
    assert "3.0% (3 of 100)" in outside["many"]
    assert turned["phone"].startswith("12 of its boxes lie in photos that EXIF turns")
    assert "boxes of the stored pixels" in turned["phone"]
    assert "standardized/phone/sheet.png" in turned["phone"]


def test_the_largest_of_large_groups_is_named(rows) -> None:
    sizes = {"small": 100, "large": 101, "larger": 102}
    drawn = rows(
        {"id": f"s/{name}{i}", "group": name} for name, size in sizes.items() for i in range(size)
    )
    ((where, message),) = warned("large_group", drawn).items()
    assert where == "larger"
    assert "2 groups of more than 100 rows hold 203 rows" in message
    assert not warned("large_group", drawn[drawn["group"] == "small"])


@pytest.mark.parametrize(
    ("num_pairs", "num_conflicts", "is_warned"), [(19, 3, False), (20, 3, True), (30, 3, False)]
)
def test_duplicates_that_disagree_about_the_class(
    rows, num_pairs, num_conflicts, is_warned
) -> None:
    drawn = rows(
        {"id": f"{source}/{i:02d}", "sha256": str(i)}
        | ({"label": "Sad"} if source == "s" and i < num_conflicts else {})
        for source in "st"
        for i in range(num_pairs)
    )
    warnings = warned("label_conflicts", drawn)
    assert list(warnings) == ["all", "s+t"] * is_warned
    assert all("15.0% (3 of 20)" in message for message in warnings.values())
