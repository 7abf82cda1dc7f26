"""Segmentation losses for a rare class with unjudged pixels."""

import torch
from torch import Tensor

from training.datasets.chip import IGNORE


def cross_entropy_and_dice(logits_BHW: Tensor, label_BHW: Tensor, overlap_weight: float) -> Tensor:
    """Return binary cross-entropy per judged pixel plus the soft Jaccard loss of the whole batch.

    The overlap term is pooled over the batch, as the score is pooled over chips: a batch without water then costs what
    it wrongly calls water, and no chip with a few water pixels rules the gradient.

    Parameters
    ----------
    logits_BHW
        [B, H, W] float32.
    label_BHW
        [B, H, W] integers: 0, 1, or :data:`~training.datasets.chip.IGNORE`.
    overlap_weight
        Weight of the Jaccard term beside the cross-entropy.

    Notes
    -----
    Soft Jaccard: Rahman and Wang (2016), ISVC, equation 3.
    """
    judged = (label_BHW != IGNORE).to(logits_BHW.dtype)
    water = (label_BHW == 1).to(logits_BHW.dtype)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits_BHW, water, weight=judged, reduction="sum")
    probability = torch.sigmoid(logits_BHW) * judged
    shared = (probability * water).sum()
    union = (probability + water - probability * water).sum()
    return entropy / judged.sum().clamp_min(1) + overlap_weight * (1 - (shared + 1) / (union + 1))
