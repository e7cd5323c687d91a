"""The report door on a finished synthetic run."""

import shutil
from pathlib import Path

import pytest

from stages import report
from tests.reporting.project import make_finished

# The gain, six models' reliability and confusion, three curves of each stage, training, eight mistakes and all.
NUM_PICTURES = 1 + 6 * 2 + 2 * 3 + 4 + 8 + 1


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project that the door has run in; tests only read it."""
    root = make_finished(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert report.main([]) == 0
    return root


@pytest.fixture
def copied(done, tmp_path, monkeypatch):
    """The same project for a test of its own, as the current folder."""
    monkeypatch.chdir(shutil.copytree(done, tmp_path / "run"))
    return tmp_path / "run"


def _outs(root: Path) -> dict[str, bytes]:
    files = [root / "plots/report.html", *sorted((root / "plots/figures").iterdir())]
    return {path.name: path.read_bytes() for path in files}


def test_door_writes_the_page_and_its_pictures(done):
    outs = _outs(done)
    page = outs.pop("report.html").decode("utf-8")
    assert {"stage_gain.png", "sources_accuracy_stageA.png", "mistakes.png"} <= outs.keys()
    assert len(outs) == page.count("<img ") == NUM_PICTURES
    assert all(data.startswith(b"\x89PNG") for data in outs.values())
    # It holds the recipe, and no place on this machine.
    assert "learning_rate: 0.001" in page
    assert str(done) not in page
    assert str(Path(report.__file__).parents[1]) not in page


def test_a_second_run_writes_the_same_bytes(copied, done):
    shutil.rmtree(copied / "plots/figures")
    (copied / "plots/report.html").unlink()
    assert report.main([]) == 0
    assert _outs(copied) == _outs(done)


def test_missing_input_is_an_error_and_the_old_page_stays(copied, capsys):
    before = _outs(copied)
    (copied / "plots/data/teachers/risk_coverage/stageB_B3.csv").unlink()
    assert report.main([]) == 2
    message = capsys.readouterr().err
    assert "risk_coverage/stageB_B3.csv: expected a file, found none" in message
    assert "Traceback" not in message
    assert _outs(copied) == before
