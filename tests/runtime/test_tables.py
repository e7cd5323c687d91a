import hashlib
from pathlib import Path

import pandas as pd
import pytest

from stages.runtime.tables import inert, write_csv


def test_bytes_depend_on_rows_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": ["x,y", 'q"', None], "b": [0.1, float("nan"), 1e-7]}, index=[5, 3, 1]
    )
    digest = write_csv(tmp_path / "t.csv", frame)
    data = (tmp_path / "t.csv").read_bytes()
    assert data == b'a,b\n"x,y",0.1\n"q""",\n,1e-07\n'
    assert digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@cmd", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_reported_a_formula_gets_an_apostrophe(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "train/=1+1/x.png", "'=1", "label.csv:12", "1e-4"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert inert(text) == text
