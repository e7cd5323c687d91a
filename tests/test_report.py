"""The report door on a finished synthetic run, and its page in a browser where there is one."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stages import report
from tests.reporting.project import make_finished

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=20000"
# The gain, six models' reliability and confusion, three curves of each stage, training, mistakes.
NUM_PICTURES = 1 + 6 * 2 + 2 * 3 + 4 + 1
MEASURE = """
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const folded = page.documentElement.scrollWidth;
  for (const part of page.querySelectorAll("details")) part.open = true;
  const images = [...page.images];
  document.body.dataset.measured = JSON.stringify({
    width: page.documentElement.clientWidth,
    needed: Math.max(folded, page.documentElement.scrollWidth),
    images: images.length,
    loaded: images.filter((image) => image.complete && image.naturalWidth > 0).length,
    wide: [...page.querySelectorAll(".table > div")].filter(
      (table) => table.scrollWidth > table.clientWidth).length,
  });
  document.querySelector("iframe").remove();
});
</script>
"""


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


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser to look at the page with: none of {', '.join(BROWSERS)}")
    return path


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


@pytest.mark.parametrize(("width", "most_tables_scroll"), [(360, True), (1280, False)])
def test_page_fits_its_window_and_only_tables_scroll(
    done, browser, tmp_path, width, most_tables_scroll
):
    measured = _measured(done / "plots/report.html", browser, tmp_path, width=width)
    assert measured["width"] == width
    assert measured["needed"] <= width
    assert measured["images"] == measured["loaded"] == NUM_PICTURES
    assert (measured["wide"] > 5) == most_tables_scroll


def _measured(page: Path, browser: str, folder: Path, *, width: int) -> dict[str, int]:
    """What a browser finds in a frame of that width; a window cannot be as narrow as a phone."""
    text = html.escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{text}"></iframe>'
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!doctype html><body>{frame}{MEASURE}</body>", encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    window = ["--window-size=1600,1000", "--dump-dom", wrapper.as_uri()]
    command = [browser, *OPTIONS.split(), profile, *window]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    match = re.search(r'data-measured="([^"]*)"', done.stdout)
    assert match is not None, done.stdout[-2000:]
    return json.loads(html.unescape(match.group(1)))
