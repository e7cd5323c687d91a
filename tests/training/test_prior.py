"""One correction of the class prior, each as its paper states it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.config import ClassWeights, LogitAdjustment, NoCorrection, Prior, SamplerFill
from stages.training.prior import build_loss, effective_number_weights

COUNTS = np.array([100, 10, 20, 800, 300, 200, 1000])
CPU = torch.device("cpu")


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 7, generator=generator), torch.randint(7, (32,), generator=generator)


def loss_of(prior, batch, label_smoothing=0.0):  # type: ignore[no-untyped-def]
    loss = build_loss(prior, counts=COUNTS, label_smoothing=label_smoothing, device=CPU)
    return loss(*batch)


@pytest.mark.parametrize(
    "prior", [NoCorrection(kind="none"), SamplerFill(kind="sampler_fill", min_per_class=2)]
)
def test_other_corrections_leave_the_loss_alone(prior, batch) -> None:  # type: ignore[no-untyped-def]
    torch.testing.assert_close(loss_of(prior, batch), F.cross_entropy(*batch))


def test_logit_adjustment_is_cross_entropy_of_shifted_logits(batch) -> None:  # type: ignore[no-untyped-def]
    logits, targets = batch
    shifted = logits + 0.5 * torch.tensor(np.log(COUNTS / COUNTS.sum()), dtype=torch.float32)
    prior = LogitAdjustment(kind="logit_adjustment", tau=0.5)
    torch.testing.assert_close(loss_of(prior, batch), F.cross_entropy(shifted, targets))


def test_class_weights_are_effective_numbers() -> None:
    weights = effective_number_weights(COUNTS, beta=0.9)
    by_hand = [0.1 / (1 - 0.9**n) for n in COUNTS]
    np.testing.assert_allclose(weights, np.array(by_hand) / np.mean(by_hand), rtol=1e-6)
    assert weights.mean() == pytest.approx(1.0)


def test_near_beta_one_weights_are_inverse_frequencies() -> None:
    weights = effective_number_weights(COUNTS, beta=1 - 1e-9)
    np.testing.assert_allclose(weights * COUNTS, weights[0] * COUNTS[0], rtol=1e-3)


def test_weighted_loss_uses_the_weights(batch) -> None:  # type: ignore[no-untyped-def]
    weights = torch.tensor(effective_number_weights(COUNTS, beta=0.99))
    prior = ClassWeights(kind="class_weights", beta=0.99)
    torch.testing.assert_close(loss_of(prior, batch), F.cross_entropy(*batch, weight=weights))


@pytest.mark.parametrize(
    "prior",
    [
        LogitAdjustment(kind="logit_adjustment", tau=1.0),
        ClassWeights(kind="class_weights", beta=1 - 1e-9),
        NoCorrection(kind="none"),
    ],
    ids=lambda prior: prior.kind,
)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_reported_smoothing_with_a_correction_favours_the_rarest_class(
    prior: Prior, label_smoothing: float
) -> None:
    """What a picture that says nothing is best called; the params check refuses the two together.

    Corrected, all classes should be as likely; .1 of smoothing makes the rarest win.
    """
    targets = torch.repeat_interleave(torch.arange(7), torch.tensor(COUNTS))
    loss = build_loss(prior, counts=COUNTS, label_smoothing=label_smoothing, device=CPU)
    logits = torch.zeros(7, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def close() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits.expand(len(targets), 7), targets)
        value.backward()
        return value

    optimizer.step(close)
    found = logits.detach().softmax(0).numpy()
    if prior.kind == "none":
        assert found.argmax() == COUNTS.argmax()
    elif label_smoothing == 0:
        np.testing.assert_allclose(found, np.full(7, 1 / 7), atol=2e-3)
    else:
        assert found.argmax() == COUNTS.argmin()
        assert found.max() > 0.25
