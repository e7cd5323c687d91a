import fnmatch
import logging
import shutil
from pathlib import Path

import grimp
import pytest
from raw_sources import SOURCES, write_params, write_raw

from stages import standardize
from stages.intake import reuse


def test_changed_code_that_makes_faces_reads_every_source_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = Path(shutil.copytree(Path(standardize.__file__).parent, tmp_path / "stages"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reuse, "_PACKAGE", package)
    write_raw(tmp_path / "raw")
    write_params(tmp_path)

    def num_reused() -> int:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert standardize.main([]) == 0
        return caplog.text.count("unchanged, reused")

    assert [num_reused(), num_reused()] == [0, len(SOURCES)]
    for path in package.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (package / "training/run.py").write_bytes(b"")
    assert num_reused() == len(SOURCES)
    for changed in ("sources/folder7.py", "intake/crop.py", "faces/decode.py", "sources/new.py"):
        with (package / changed).open("ab") as file:
            file.write(b"# changed\n")
        assert num_reused() == 0


def test_all_that_decides_over_rows_is_code_that_is_hashed() -> None:
    """Of config.py only CLASSES and NOT_A_CLASS decide over rows; they are hashed beside."""
    graph = grimp.build_graph("stages", cache_dir=None)
    modules = {"stages.sources.formats", *graph.find_upstream_modules("stages.sources.formats")}
    files = {module.removeprefix("stages.").replace(".", "/") + ".py" for module in modules}
    deciding = {file for file in files if not file.startswith("runtime/")} - {"config.py"}
    assert "sources/rows.py" in deciding
    assert not [
        f for f in deciding if not any(fnmatch.fnmatch(f, pattern) for pattern in reuse._CODE)
    ]
