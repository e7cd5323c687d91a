"""Pairs of duplicates -> contact sheets, by which a person judges the search for duplicates.

Of a group only one pair is drawn, so that one picture of many copies does not fill a sheet.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.faces.decode import Image
from stages.faces.sheet import pair_sheet
from stages.faces.store import FaceStore
from stages.runtime.files import write_bytes
from stages.runtime.seed import derive_seed
from stages.splitting.frozen import FrozenManifest

DUPLICATES, REVIEW = "duplicate_pairs.png", "review_pairs.png"
_PAIRS = 8


def write_pair_sheets(folder: Path, frozen: FrozenManifest, *, standardized: Path) -> None:
    """Write `duplicate_pairs.png` and `review_pairs.png`; only the drawn images are read."""
    sheets = {DUPLICATES: duplicate_rows(frozen.duplicates), REVIEW: review_rows(frozen.review)}
    drawn = pd.concat([pairs for rows in sheets.values() for pairs in rows.values()])
    ids = {*drawn["id_a"], *drawn["id_b"]}
    images = FaceStore(standardized).decode(ids)
    known = frozen.drawn[frozen.drawn["id"].isin(ids)]
    labels = dict(zip(known["id"], known["label"], strict=True))
    for name, rows in sheets.items():
        tiles: dict[str, list[tuple[Image, Image, str]]] = {
            title: [
                (images[pair["id_a"]], images[pair["id_b"]], caption(pair, labels))
                for pair in pairs.to_dict("records")
            ]
            for title, pairs in rows.items()
        }
        write_bytes(folder / name, pair_sheet(tiles))


def duplicate_rows(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the sheet of duplicates: title with the number of pairs, pairs to draw.

    `pairs` come in the order of their ids.
    """
    near = pairs["kind"] == "near"
    kinds = {
        "exact, across splits": ~near & (pairs["split_a"] != pairs["split_b"]),
        "near, from the lowest": near,
        "near, mirrored": near & (pairs["mirrored"] == "true"),
        "labels disagree": pairs["same_label"] == "false",
    }
    return {
        _title(name, chosen): lowest(pairs, chosen) if chosen is near else fair_draw(pairs, chosen)
        for name, chosen in kinds.items()
    }


def review_rows(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the sheet for review, one for each hundredth of correlation, from the highest."""
    hundredth = np.floor(pairs["correlation"] * 100 + 1e-6).astype("int64")
    rows = {}
    for number in sorted(hundredth.unique(), reverse=True):
        band = hundredth == number
        rows[_title(f"{number / 100:.2f} to {(number + 1) / 100:.2f}", band)] = fair_draw(
            pairs, band
        )
    return rows or {_title("for review", hundredth.astype(bool)): pairs}


def fair_draw(pairs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Draw a pair of each of a few groups by a hash of its ids: the same pairs on every machine."""
    positions = np.flatnonzero(chosen)
    # Of the wide table only the column that is needed is touched.
    positions = positions[~pairs["group"].iloc[positions].duplicated().to_numpy()]
    ids = zip(pairs["id_a"].iloc[positions], pairs["id_b"].iloc[positions], strict=True)
    keys = np.array([derive_seed(0, "pairs", *both) for both in ids], np.int64)
    return pairs.iloc[positions[np.argsort(keys)[:_PAIRS]]]


def lowest(pairs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The pairs of the lowest correlation, one of each of a few groups."""
    positions = np.flatnonzero(chosen)
    correlation = pairs["correlation"].to_numpy()[positions]
    positions = positions[np.argsort(correlation, kind="stable")]
    is_first = ~pairs["group"].iloc[positions].duplicated().to_numpy()
    return pairs.iloc[positions[is_first][:_PAIRS]]


def caption(pair: Mapping[Any, Any], labels: Mapping[str, str]) -> str:
    """Such as `0.9412 mirrored, Happy / Sad, train / test`; what both share stands once."""
    alike = "exact" if pair["kind"] == "exact" else f"{pair['correlation']:.4f}"
    mirrored = " mirrored" if pair["mirrored"] == "true" else ""
    both = [(labels[pair["id_a"]], labels[pair["id_b"]]), (pair["split_a"], pair["split_b"])]
    words = [first if first == second else f"{first} / {second}" for first, second in both]
    return ", ".join([alike + mirrored, *words])


def _title(name: str, chosen: pd.Series) -> str:
    number = int(chosen.sum())
    return f"{name}\n{number:,} {'pair' if number == 1 else 'pairs'}"
