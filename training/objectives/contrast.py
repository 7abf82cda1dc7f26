"""Contrast: what belongs together lies close, everything else in the batch apart.

Shape suffixes: B chips, D axes of the space that is contrasted in, N points.
"""

import torch
from torch import Tensor, nn


def nt_xent(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    """Return the normalised, temperature-scaled cross-entropy of two views (Chen et al. 2020, ICML, equation 1).

    Each of the 2 B views has one partner, the other view of its chip, among 2 B - 1 others.

    Parameters
    ----------
    first_BD, second_BD
        [B, D] projections of either view, of any length; row i of both is one chip.
    temperature
        Divisor of the cosines.
    """
    both = nn.functional.normalize(torch.cat([first_BD, second_BD]).float(), dim=1)
    cosines = both @ both.T / temperature
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    chips = torch.arange(len(first_BD), device=both.device)
    partner = torch.cat([chips + len(chips), chips])
    return nn.functional.cross_entropy(cosines.masked_fill(itself, -torch.inf), partner)


def info_nce(first_BD: Tensor, second_BD: Tensor, scale: Tensor | float, present_B: Tensor) -> Tensor:
    """Return the symmetric cross-entropy between two modalities (Radford et al. 2021, ICML, figure 3).

    Chips that lack either modality are neither partners nor negatives; with fewer than two left there is nothing to
    contrast, and the loss is zero.

    Parameters
    ----------
    first_BD, second_BD
        [B, D] projections of either modality; row i of both is one chip.
    scale
        Factor of the cosines: one over the temperature.
    present_B
        [B] bool, where both modalities are there.
    """
    first, second = (nn.functional.normalize(each[present_B].float(), dim=1) for each in (first_BD, second_BD))
    if len(first) < 2:
        return (first_BD.sum() + second_BD.sum()) * 0.0
    cosines = scale * first @ second.T
    chips = torch.arange(len(first), device=first.device)
    return (nn.functional.cross_entropy(cosines, chips) + nn.functional.cross_entropy(cosines.T, chips)) / 2


def at_points(map_BCHW: Tensor, points_BN2: Tensor) -> Tensor:
    """Return the features of a map at points, bilinear: [B, N, C].

    Parameters
    ----------
    map_BCHW
        Features over the whole of each view.
    points_BN2
        Row and column of each point as shares of the view, 0 at its first edge and 1 at its last.
    """
    grid_BN12 = (2 * points_BN2 - 1).flip(-1)[:, :, None]
    sampled = nn.functional.grid_sample(map_BCHW.float(), grid_BN12.float(), padding_mode="border", align_corners=False)
    return sampled[..., 0].transpose(1, 2)
