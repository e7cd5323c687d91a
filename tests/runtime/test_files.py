"""A file is the old one or the new one, never a part."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.files import published_folder, sha256_json, write_bytes, write_json


class CrashError(Exception):
    pass


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"epoch": 1})

    def crash(*_args: object) -> None:
        raise CrashError

    monkeypatch.setattr("stages.runtime.files.Path.replace", crash)
    with pytest.raises(CrashError):
        write_bytes(path, b"half")
    assert path.read_text(encoding="utf-8") == '{\n  "epoch": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "models"
    with published_folder(target) as folder:
        (folder / "old").touch()
    with pytest.raises(CrashError), published_folder(target) as folder:
        (folder / "new").touch()
        raise CrashError
    assert [p.name for p in target.iterdir()] == ["old"]
    with published_folder(target) as folder:
        (folder / "new").touch()
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["models"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"nll": float("nan")})


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_hash_of_json_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert sha256_json(value) == sha256_json(backwards)
