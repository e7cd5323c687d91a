from io import BytesIO

import matplotlib.image
import pytest

from stages.config import Calibrate
from stages.evaluation.assessment import assess, stage_models
from stages.evaluation.figures import (
    confusion_figure,
    model_colours,
    reliability_figure,
    teacher_colours,
    training_figure,
)
from stages.evaluation.published import PublishedTeacher, read_manifest_folder, read_teacher
from tests.evaluation.run_folder import build_run_folder

WEIGHTS = {"RN18": 0.7, "B3": 0.3}


@pytest.fixture(scope="module")
def assessments(tmp_path_factory):
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)
    manifest = read_manifest_folder(root / "manifests")
    teachers = [read_teacher(root / "models/stageA" / name, manifest=manifest) for name in WEIGHTS]
    settings = Calibrate(weights=WEIGHTS)
    return [
        assess(model, manifest=manifest, settings=settings, seed=7)
        for model in stage_models(teachers, weights=WEIGHTS)
    ]


def _size(png):
    height, width, _ = matplotlib.image.imread(BytesIO(png)).shape
    return width, height


def test_every_figure_is_a_png_and_the_same_bytes_again(assessments):
    teachers = [one.model.teachers[0] for one in assessments[:2]]
    for draw in (
        lambda: reliability_figure(assessments, bins=15),
        lambda: confusion_figure(assessments),
        lambda: training_figure(teachers),
    ):
        png = draw()
        assert min(_size(png)) > 400
        assert draw() == png


def test_odd_number_of_models_leaves_a_blank_panel(assessments):
    assert _size(confusion_figure(assessments[:3])) == _size(confusion_figure(assessments))


def test_passed_through_teacher_has_no_curve_and_no_error(assessments):
    teacher = assessments[0].model.teachers[0]
    silent = PublishedTeacher("stageB", "RN18", "", teacher.logits, [])
    assert training_figure([teacher, silent]) != training_figure([teacher])


def test_a_teacher_has_one_colour_everywhere(assessments):
    assert teacher_colours(["RN18", "B3", "RN18"]) == {
        name: model_colours(assessments)[name] for name in ("RN18", "B3")
    }
