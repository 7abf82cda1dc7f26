"""Redundancy reduction: every axis of an embedding agrees between views, and says what no other axis says."""

import torch
from torch import Tensor


def barlow_twins(first_BD: Tensor, second_BD: Tensor, redundancy: float) -> Tensor:
    """Return the loss of Barlow Twins (Zbontar et al. 2021, ICML, equations 1 and 2).

    Parameters
    ----------
    first_BD, second_BD
        [B, D] projections of either view; row i of both is one chip.
    redundancy
        Weight of what lies off the diagonal (lambda).
    """
    first, second = (_standardised(each.float()) for each in (first_BD, second_BD))
    correlation_DD = first.T @ second / len(first)
    diagonal = torch.diagonal(correlation_DD)
    off_diagonal = (correlation_DD**2).sum() - (diagonal**2).sum()
    return ((1 - diagonal) ** 2).sum() + redundancy * off_diagonal


def _standardised(values_BD: Tensor) -> Tensor:
    """Return each axis with mean 0 and variance 1 over the batch; an axis that is constant stays 0."""
    centred = values_BD - values_BD.mean(dim=0)
    return centred / (centred**2).mean(dim=0).clamp_min(1e-8).sqrt()
