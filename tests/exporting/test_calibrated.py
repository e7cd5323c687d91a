import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration
from stages.exporting.calibrated import CalibratedEnsemble, CalibratedTeacher


class Fixed(nn.Module):
    """Answers with these logits, whatever the images."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(9, 7) * 8, torch.randn(9, 7) * 8


def test_a_teacher_is_scaled_by_its_temperature(logits: tuple[Tensor, Tensor]) -> None:
    raw, probabilities = CalibratedTeacher(Fixed(logits[0]), calibration=Calibration((1.0,), 2.5))(
        torch.empty(9)
    )
    assert torch.equal(raw, logits[0])
    np.testing.assert_allclose(probabilities, softmax(logits[0].double() / 2.5, axis=1), atol=1e-6)


def test_the_ensemble_fuses_first_and_scales_then(logits: tuple[Tensor, Tensor]) -> None:
    members = [Fixed(member) for member in logits]
    ensemble = CalibratedEnsemble(members, calibration=Calibration((0.7, 0.3), 1.6))
    fused, probabilities = ensemble(torch.empty(9))
    expected = 0.7 * softmax(logits[0].double(), axis=1) + 0.3 * softmax(logits[1].double(), axis=1)
    scaled = expected ** (1 / 1.6)
    np.testing.assert_allclose(fused, np.log(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities, scaled / scaled.sum(1, keepdims=True), atol=1e-6)


def test_a_class_that_all_teachers_exclude_keeps_a_finite_logit() -> None:
    far = torch.tensor([[0.0, -200.0, 0, 0, 0, 0, 0]])
    fused, _ = CalibratedEnsemble(
        [Fixed(far), Fixed(far)], calibration=Calibration((0.5, 0.5), 1.0)
    )(far)
    assert fused[0, 1].item() == pytest.approx(-200 - logsumexp([0.0] * 6), rel=1e-6)


def test_a_teacher_without_weight_is_left_out(logits: tuple[Tensor, Tensor]) -> None:
    members = [Fixed(member) for member in logits]
    fused, _ = CalibratedEnsemble(members, calibration=Calibration((0.0, 1.0), 1.0))(torch.empty(9))
    np.testing.assert_allclose(fused, torch.log_softmax(logits[1], dim=1), atol=1e-5)


def test_a_mixture_of_logits_and_a_bias_per_class_are_followed(
    logits: tuple[Tensor, Tensor],
) -> None:
    bias = (0.5, -0.5, 0.25, 0.0, 0.0, -0.25, 0.0)
    calibration = Calibration((0.7, 0.3), 1.6, space="logits", class_bias=bias)
    ensemble = CalibratedEnsemble([Fixed(each) for each in logits], calibration=calibration)
    fused, probabilities = ensemble(torch.empty(9))
    mixed = 0.7 * logits[0].double() + 0.3 * logits[1].double()
    expected = softmax(mixed / 1.6 + torch.tensor(bias, dtype=torch.float64), axis=1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(
        softmax(fused / 1.6 + torch.tensor(bias), axis=1), probabilities, atol=1e-6
    )
