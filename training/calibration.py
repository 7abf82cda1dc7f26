"""Temperature scaling on held-out logits (Guo et al. 2017, ICML, section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

LEAST: Final = 0.05
MOST: Final = 20.0
"""Bounds of a temperature; a network that reaches one has learnt nothing that scaling could mend."""

BINS: Final = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Fit:
    """A fitted temperature and what it changed.

    Attributes
    ----------
    temperature
        Divisor of the logit.
    nll_before, nll_after
        Mean negative log-likelihood per pixel, nats.
    error_before, error_after
        Expected calibration error, 0-1.
    """

    temperature: float
    nll_before: float
    nll_after: float
    error_before: float
    error_after: float


def fit_temperature(logits: Tensor, water: Tensor, weight: Tensor) -> Fit:
    """Fit the temperature that minimises the weighted negative log-likelihood.

    Parameters
    ----------
    logits
        [N] float32, of pixels of events that the network was not trained on.
    water
        [N] float32, 0 or 1.
    weight
        [N] float32; equal total weight per event keeps one large event from deciding alone.
    """
    logits, water, weight = logits.double(), water.double(), weight.double() / weight.double().sum()
    temperature = _best(lambda divisor: _nll(logits / divisor, water, weight))
    return Fit(
        temperature=temperature,
        nll_before=float(_nll(logits, water, weight)),
        nll_after=float(_nll(logits / temperature, water, weight)),
        error_before=calibration_error(torch.sigmoid(logits), water, weight),
        error_after=calibration_error(torch.sigmoid(logits / temperature), water, weight),
    )


def fit_class_temperature(logits: Tensor, label: Tensor) -> Fit:
    """Fit one temperature for several classes; errors are those of the probability of the most probable class.

    Parameters
    ----------
    logits
        [N, K] float32, of chips that the network was not trained on.
    label
        [N] int64, class numbers.
    """
    logits = logits.double()
    weight = torch.full_like(logits[:, 0], 1 / len(logits))

    def error(divisor: float) -> float:
        probability, called = torch.softmax(logits / divisor, dim=1).max(dim=1)
        return calibration_error(probability, (called == label).double(), weight)

    temperature = _best(lambda divisor: nn.functional.cross_entropy(logits / divisor, label))
    return Fit(
        temperature=temperature,
        nll_before=float(nn.functional.cross_entropy(logits, label)),
        nll_after=float(nn.functional.cross_entropy(logits / temperature, label)),
        error_before=error(1.0),
        error_after=error(temperature),
    )


def _best(loss_of: Callable[[Tensor], Tensor]) -> float:
    """Return the divisor of logits that minimises a loss, within bounds."""
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = loss_of(log_temperature.exp())
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return min(max(float(log_temperature.detach().exp()), LEAST), MOST)


def _nll(logits: Tensor, water: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean negative log-likelihood."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, water, weight=weight, reduction="sum")


def calibration_error(probability: Tensor, water: Tensor, weight: Tensor) -> float:
    """Return the expected calibration error: mean distance of stated and observed frequency over equal bins.

    Parameters
    ----------
    probability, water, weight
        [N] each; weights add up to one.
    """
    index = (probability * BINS).long().clamp(0, BINS - 1)
    stated = torch.zeros(BINS, dtype=weight.dtype).index_add_(0, index, weight * probability)
    observed = torch.zeros(BINS, dtype=weight.dtype).index_add_(0, index, weight * water)
    return float((stated - observed).abs().sum())
