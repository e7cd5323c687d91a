from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.config import CLASSES
from stages.records.schema import COLUMNS, SHARE_COLUMNS, SPLITS, read_manifest, write_manifest
from stages.runtime.errors import UserError

HARD = ["nan", "NULL", "NA", "None", "007", "1e5", "true", '"', "a,b", " a ", "é/ü", "#"]
names = st.sampled_from(HARD) | st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8
)
splits = st.sampled_from(SPLITS)
any_row = st.fixed_dictionaries(
    {
        "id": names.filter(lambda id_: not id_.startswith("/")),
        "label": st.sampled_from(CLASSES),
        "split": splits,
        "official": st.none() | splits,
        "twin_splits": st.sampled_from(["", "val", "train+test"]),
        "group": names,
        "photo": names,
        "native_px": st.integers(1, 2**40),
        "confidence": st.just(np.nan) | st.floats(allow_nan=False, allow_infinity=False),
        "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
        "votes": st.none() | st.lists(st.floats(0.01, 1), min_size=7, max_size=7),
    }
)


@given(specs=st.lists(any_row, min_size=1, max_size=6, unique_by=lambda spec: spec["id"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_what_is_written_is_read(rows, specs, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    shares = [np.array(spec["votes"] or [np.nan] * 7) for spec in specs]
    frame = rows(
        spec | dict(zip(SHARE_COLUMNS, votes / votes.sum(), strict=True))
        for spec, votes in zip(specs, shares, strict=True)
    )
    first = write_manifest(path, frame)
    read = read_manifest(path)
    pd.testing.assert_frame_equal(read, frame, check_exact=True)
    assert write_manifest(path, read) == first


def test_the_file_is_plain(rows, tmp_path: Path) -> None:
    shares = dict(zip(SHARE_COLUMNS, [0.25, 0, 0, 0.75, 0, 0, 0], strict=True))
    frame = rows([{"id": "s/a", "confidence": 60.5}, {"id": "s/b", **shares}])
    write_manifest(tmp_path / "m.csv", frame)
    first, second, third, *rest = (tmp_path / "m.csv").read_bytes().decode().split("\n")
    assert first == ",".join(COLUMNS)
    assert second.startswith("s/a,s,Happy,train,,,s/a,s/a,48,60.5,")
    assert second.endswith(",,,,,,,")
    assert third.endswith(",0.25,0.0,0.0,0.75,0.0,0.0,0.0")
    assert rest == [""]


LABELS = "Angry, Disgust, Fear, Happy, Sad, Surprise, Neutral"
NAME = "text without control characters"
BROKEN = [
    ("label", "Contempt", f"line 3: label: expected one of {LABELS}, got 'Contempt'"),
    ("source", "t", "line 3: source: expected the id up to its first '/', got 't'"),
    ("id", "s/a", f"line 2: id: expected {NAME}, different in each row, got 's/a'"),
    ("id", "s/", "line 3: id: expected rows in the order of their ids, got 's/'"),
    ("native_px", 0, "line 3: native_px: expected a whole number, 1 or more, got 0"),
    ("sha256", "abc", "line 3: sha256: expected 64 hexadecimal digits, got 'abc'"),
    ("confidence", np.inf, "line 3: confidence: expected a number or nothing, got inf"),
    ("p_fear", 1.5, "line 3: p_fear: expected a share from 0 to 1 or nothing, got 1.5"),
    ("p_fear", 0.5, "line 3: p_angry ...: expected seven shares that sum to 1, or none, got nan"),
    ("photo", "a\n", f"line 3: photo: expected {NAME}, got 'a\\n'"),
]


@pytest.mark.parametrize(("column", "value", "message"), BROKEN)
def test_a_broken_cell_is_named(rows, tmp_path: Path, column: str, value, message: str) -> None:
    frame = rows([{"id": "s/a"}, {"id": "s/b"}, {"id": "s/c"}])
    frame.loc[1, column] = value
    with pytest.raises(UserError) as error:
        write_manifest(tmp_path / "m.csv", frame)
    assert f"m.csv: {message}" in str(error.value).split("\n")
    assert not (tmp_path / "m.csv").exists()


EDITED = [
    (",48,", ",4_8px,", "line 2: native_px: expected a whole number, 1 or more, got '4_8px'"),
    (",60.5,", ",high,", "line 2: confidence: expected a number or nothing, got 'high'"),
    ("source,label", "source,emotion", "columns: expected ['id', 'source', 'label'"),
    (",,,,,,,\nend", ",,,\n", "not a CSV of the manifest: CSV parse error: Row #3"),
]


@pytest.mark.parametrize(("old", "new", "message"), EDITED)
def test_a_file_that_was_edited_or_cut_off_is_refused(rows, tmp_path: Path, old, new, message):
    path = tmp_path / "m.csv"
    write_manifest(path, rows([{"id": "s/a", "confidence": 60.5}, {"id": "s/b", "native_px": 50}]))
    text = path.read_text() + "end"
    assert text.count(old) == 1
    path.write_text(text.replace(old, new).removesuffix("end"))
    with pytest.raises(UserError) as error:
        read_manifest(path)
    assert str(error.value).startswith(f"m.csv: {message}")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"m\.csv: no such file in {tmp_path.name}/"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("")
    with pytest.raises(UserError, match=r"m\.csv: not a CSV"):
        read_manifest(tmp_path / "m.csv")


def test_many_problems_are_one_short_message(rows, tmp_path: Path) -> None:
    frame = rows({"id": f"s/{i:02d}", "split": "traim"} for i in range(30))
    with pytest.raises(UserError) as error:
        write_manifest(tmp_path / "m.csv", frame)
    *lines, last = str(error.value).split("\n")
    assert (len(lines), last) == (10, "m.csv: 20 more problems of this kind")
