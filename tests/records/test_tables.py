import hashlib
from pathlib import Path

import pandas as pd

from stages.records.tables import write_csv


def test_bytes_depend_on_rows_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": ["x,y", 'q"', None], "b": [0.1, float("nan"), 1e-7]}, index=[5, 3, 1]
    )
    digest = write_csv(tmp_path / "t.csv", frame)
    data = (tmp_path / "t.csv").read_bytes()
    assert data == b'a,b\n"x,y",0.1\n"q""",\n,1e-07\n'
    assert digest == hashlib.sha256(data).hexdigest()
