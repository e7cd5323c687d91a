"""CSV files depend on their rows alone, strangers' text is inert, and a draw is fair."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.tables import FairDraw, inert, write_csv


def test_bytes_depend_on_rows_alone(tmp_path: Path) -> None:
    values = {"a": ["x,y", 'q"', None], "b": [0.1, float("nan"), 1e-7]}
    digest = write_csv(tmp_path / "t.csv", pd.DataFrame(values, index=[5, 3, 1]))
    data = (tmp_path / "t.csv").read_bytes()
    assert data == b'a,b\n"x,y",0.1\n"q""",\n,1e-07\n'
    assert digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@cmd", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_reported_a_formula_gets_an_apostrophe(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "train/=1+1/x.png", "'=1", "label.csv:12", "1e-4"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


@given(keys=st.lists(st.text(max_size=3), unique=True, max_size=30), data=st.data())
def test_the_smallest_keys_of_a_title_are_drawn_in_whatever_order_they_come(keys, data):
    draw: FairDraw[str] = FairDraw(5)
    draw.add("other", key="", item="apart")
    for key in data.draw(st.permutations(keys)):
        draw.add("title", key=key, item=f"item {key}")
    assert draw.drawn("title") == [f"item {key}" for key in sorted(keys)[:5]]
    assert (draw.drawn("other"), draw.drawn("unknown")) == (["apart"], [])
    assert (draw.counts["title"], draw.counts["other"]) == (len(keys), 1)
