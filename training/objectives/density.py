"""Learning how many landslides there are."""

import torch
from torch import Tensor

DISPERSION = 1.0
"""Excess variance of counts over their mean, relative to the square of the mean: landslides come in clusters."""


def count_loss(log_mean_B: Tensor, count_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return the weighted mean negative log-likelihood of counts under a negative binomial law, without constants.

    For a fixed dispersion the mean that minimises it is the mean of the counts: summed over cells, the density then
    says how many landslides to expect (Hilbe 2011, Negative Binomial Regression, equation 8.8).

    Parameters
    ----------
    log_mean_B
        [B] natural logarithm of the expected count.
    count_B
        [B] counts, float.
    weight_B
        [B] weights, not negative.
    """
    scaled = DISPERSION * torch.exp(log_mean_B)
    likelihood = count_B * (torch.log(scaled) - torch.log1p(scaled)) - torch.log1p(scaled) / DISPERSION
    return -(likelihood * weight_B).sum() / weight_B.sum().clamp_min(1e-6)
