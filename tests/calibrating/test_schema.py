import copy

import pytest
from pydantic import ValidationError

from stages.calibrating.report import metrics_json
from stages.calibrating.schema import check_metrics


@pytest.fixture
def metrics(studied, settings):
    return copy.deepcopy(metrics_json(studied, settings=settings))


def test_comparison_of_no_model_is_an_error(metrics):
    metrics["stageB_vs_stageA"] = {}
    with pytest.raises(ValidationError, match="stageB_vs_stageA"):
        check_metrics(metrics, report="test")


def test_interval_whose_ends_are_swapped_is_an_error(metrics):
    row = metrics["stageA"]["RN18"]["test"]["scores"][0]
    row["nll_95"] = row["nll_95"][::-1]
    with pytest.raises(ValidationError, match="nll_95"):
        check_metrics(metrics, report="test")


def test_class_has_an_f1_if_and_only_if_it_has_rows(metrics):
    row = metrics["stageA"]["RN18"]["test"]["per_class"][0]
    row |= {"n": 0, "f1": None, "f1_95": None}
    check_metrics(metrics, report="test")
    row["n"] = 5
    with pytest.raises(ValidationError, match="expected a number with its interval for 5 rows"):
        check_metrics(metrics, report="test")
