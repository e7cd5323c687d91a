from pathlib import Path

import pytest

from stages.config import load_params
from stages.reporting.finished import Finished, read_finished
from stages.reporting.page import render_page
from stages.reporting.pictures import Picture, draw_pictures
from tests.reporting.project import make_finished


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project; tests only read it."""
    return make_finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def run(root: Path) -> Finished:
    return read_finished(root)


@pytest.fixture(scope="session")
def recipe(root: Path) -> dict:
    standardize = load_params(root / "params.yaml").standardize.model_dump(mode="json")
    standardize["sources"]["ferplus"]["licence"] = None
    return {"seed": 7, "standardize": standardize}


@pytest.fixture(scope="session")
def pictures(run: Finished, root: Path) -> list[Picture]:
    return draw_pictures(run, standardized=root / "standardized")


@pytest.fixture(scope="session")
def page(run: Finished, pictures: list[Picture], recipe: dict) -> str:
    return render_page(run, pictures=pictures, recipe=recipe)
