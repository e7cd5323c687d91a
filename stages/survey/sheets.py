"""Contact sheets of pairs: what the search for duplicates called the same, for a person to judge.

Of a group only one pair is drawn, so that one picture of many copies does not fill a sheet.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.faces.decode import Image
from stages.faces.sheet import pair_sheet
from stages.faces.store import FaceStore
from stages.runtime.files import write_bytes
from stages.runtime.seed import derive_seed
from stages.splitting.frozen import FrozenManifest

DUPLICATES, REVIEW = "duplicate_pairs.png", "review_pairs.png"
_PAIRS = 8

Positions = npt.NDArray[np.int64]


def write_pair_sheets(folder: Path, frozen: FrozenManifest, *, standardized: Path) -> None:
    """Write `duplicate_pairs.png` and `review_pairs.png`; only the drawn images are read."""
    sheets = {DUPLICATES: duplicate_rows(frozen.duplicates), REVIEW: review_rows(frozen.review)}
    drawn = pd.concat([pairs for rows in sheets.values() for pairs in rows.values()])
    ids = {*drawn["id_a"], *drawn["id_b"]}
    images = FaceStore(standardized).decode(ids)
    known = frozen.drawn[frozen.drawn["id"].isin(ids)]
    labels = dict(zip(known["id"], known["label"], strict=True))
    for name, rows in sheets.items():
        tiles = {title: _tiles(pairs, images, labels) for title, pairs in rows.items()}
        write_bytes(folder / name, pair_sheet(tiles))


def duplicate_rows(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the sheet of duplicates: title with the number of pairs, pairs drawn of them.

    `pairs` come in the order of their ids.
    """
    near = pairs["kind"] == "near"
    across = ~near & (pairs["split_a"] != pairs["split_b"])
    mirrored = near & (pairs["mirrored"] == "true")
    unlike = pairs["same_label"] == "false"
    return {
        _title("exact, across splits", across.sum()): fair_draw(pairs, across),
        _title("near, from the lowest", near.sum()): lowest(pairs, near),
        _title("near, mirrored", mirrored.sum()): fair_draw(pairs, mirrored),
        _title("labels disagree", unlike.sum()): fair_draw(pairs, unlike),
    }


def review_rows(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the sheet for review, one for each hundredth of correlation, from the highest."""
    hundredth = np.floor(pairs["correlation"] * 100 + 1e-6).astype("int64")
    rows = {}
    for number in sorted(hundredth.unique(), reverse=True):
        band = hundredth == number
        title = f"{number / 100:.2f} to {(number + 1) / 100:.2f}"
        rows[_title(title, band.sum())] = fair_draw(pairs, band)
    return rows or {_title("for review", 0): pairs}


def fair_draw(pairs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """One pair of each of a few groups, by a hash of its ids: the same ones on every machine."""
    at = _one_a_group(pairs, np.flatnonzero(chosen))
    ids = zip(pairs["id_a"].iloc[at], pairs["id_b"].iloc[at], strict=True)
    keys = np.array([derive_seed(0, "pairs", *both) for both in ids], np.int64)
    return pairs.iloc[at[np.argsort(keys)[:_PAIRS]]]


def lowest(pairs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The pairs of the lowest correlation, one of each of a few groups."""
    at = np.flatnonzero(chosen)
    by_correlation = np.argsort(pairs["correlation"].to_numpy()[at], kind="stable")
    return pairs.iloc[_one_a_group(pairs, at[by_correlation])[:_PAIRS]]


def caption(pair: Mapping[Hashable, Any], labels: Mapping[str, str]) -> str:
    """Such as `0.9412 mirrored, Happy / Sad, train / test`; what both share stands once."""
    both = [
        (labels[pair["id_a"]], labels[pair["id_b"]]),
        (pair["split_a"], pair["split_b"]),
    ]
    alike = "exact" if pair["kind"] == "exact" else f"{pair['correlation']:.4f}"
    mirrored = " mirrored" if pair["mirrored"] == "true" else ""
    words = [one if one == other else f"{one} / {other}" for one, other in both]
    return ", ".join([alike + mirrored, *words])


def _one_a_group(pairs: pd.DataFrame, at: Positions) -> Positions:
    """Of positions those that come first in their group; only one column is touched."""
    return at[~pairs["group"].iloc[at].duplicated().to_numpy()]


def _title(name: str, number: int) -> str:
    return f"{name}\n{number:,} {'pair' if number == 1 else 'pairs'}"


def _tiles(
    pairs: pd.DataFrame, images: Mapping[str, Image], labels: Mapping[str, str]
) -> list[tuple[Image, Image, str]]:
    return [
        (images[pair["id_a"]], images[pair["id_b"]], caption(pair, labels))
        for pair in pairs.to_dict("records")
    ]
