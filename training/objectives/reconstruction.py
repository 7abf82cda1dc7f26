"""Reconstruction: values that a network did not see, or was not given, from those that it was.

Shape suffixes: B chips, L patches, P values of a patch.
"""

import torch
from torch import Tensor


def masked_error(said_BLP: Tensor, truth_BLP: Tensor, measured_BLP: Tensor, hidden_BL: Tensor) -> Tensor:
    """Return the mean squared error over hidden patches (He et al. 2022, CVPR, section 3).

    Values that were never measured are no truth and do not count.

    Parameters
    ----------
    said_BLP, truth_BLP
        [B, L, P] reconstruction and what it should be; the truth is finite everywhere.
    measured_BLP
        [B, L, P], 1 where the truth was measured, else 0.
    hidden_BL
        [B, L], 1 where the patch was hidden, else 0.
    """
    weight = measured_BLP * hidden_BL[..., None]
    return ((said_BLP.float() - truth_BLP) ** 2 * weight).sum() / weight.sum().clamp_min(1)


def measured_error(said: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error where the truth is not NaN; zero when it is NaN everywhere."""
    known = ~torch.isnan(truth)
    apart = torch.where(known, said.float() - torch.where(known, truth, 0), 0)
    return (apart**2).sum() / known.sum().clamp_min(1)
