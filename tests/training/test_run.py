"""What makes a run another one."""

from stages.config import ClassWeights, NoCorrection, load_params
from stages.training.run import recipe_version


def test_reported_a_run_that_took_another_gradient_is_not_gone_on_with() -> None:
    stage = load_params().stageA
    weights = ClassWeights(kind="class_weights", beta=0.99)
    for prior in (weights, NoCorrection(kind="none")):
        assert recipe_version(stage.model_copy(update={"prior": prior, "accumulate": 1})) == 1
    several = stage.model_copy(update={"prior": NoCorrection(kind="none"), "accumulate": 2})
    assert recipe_version(several) == 1
    assert recipe_version(several.model_copy(update={"prior": weights})) == 2
