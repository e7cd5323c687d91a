import fnmatch
import logging
import shutil
from pathlib import Path

import grimp
import pytest
from raw_sources import SOURCES, write_params, write_raw

from stages import standardize
from stages.intake import reuse
from stages.intake.reuse import _CODE, code_sha256

PACKAGE = Path(__file__).parents[2] / "stages"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "stages", ignore=ignored))


def test_only_code_that_makes_faces_changes_the_hash(package: Path) -> None:
    for path in package.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (package / "training/run.py").write_bytes(b"")
    (package / "sources/__pycache__").mkdir()
    (package / "sources/__pycache__/x.pyc").write_bytes(b"x")
    hashes = [code_sha256(package)]
    assert hashes == [code_sha256(PACKAGE)]
    for changed in ("sources/folder7.py", "intake/crop.py", "runtime/tables.py", "sources/new.py"):
        with (package / changed).open("ab") as file:
            file.write(b"# changed\n")
        hashes.append(code_sha256(package))
    (package / "sources/folder7.py").rename(package / "sources/folder8.py")
    hashes.append(code_sha256(package))
    assert len(set(hashes)) == len(hashes)


def test_changed_code_reads_every_source_again(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reuse, "_PACKAGE", package)
    write_raw(tmp_path / "raw")
    write_params(tmp_path)
    for expected in (0, len(SOURCES)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            standardize.main([])
        assert caplog.text.count("unchanged, reused") == expected
    with (package / "sources/expw.py").open("a", encoding="utf-8") as file:
        file.write("# The top is the first number.\n")
    caplog.clear()
    standardize.main([])
    assert "unchanged, reused" not in caplog.text


def test_all_that_decides_over_rows_is_code_that_is_hashed() -> None:
    """Of config.py only CLASSES and NOT_A_CLASS decide over rows; they are hashed beside."""
    graph = grimp.build_graph("stages", cache_dir=None)
    modules = {"stages.sources.formats", *graph.find_upstream_modules("stages.sources.formats")}
    files = {module.removeprefix("stages.").replace(".", "/") + ".py" for module in modules}
    deciding = {file for file in files if not file.startswith("runtime/")} - {"config.py"}
    assert "sources/rows.py" in deciding
    assert not [f for f in deciding if not any(fnmatch.fnmatch(f, pattern) for pattern in _CODE)]
