"""What a network sees of a backscatter chip: one copy, used by training and written into every exported graph.

Legend of shape suffixes: B batch, C band, H row, W column.
"""

import torch

from tocsin.manifest import Normalisation

MEASURABLE_DB = 200.0
"""Backscatter beyond +-200 dB is no measurement (the release of Sen1Floods11 spans -60 to 37 dB): a nodata value such
as -9999 that slipped through, or an infinity from the logarithm of zero. It is missing, never very dark water."""

LOW_DB = (-40.0, -45.0)
"""Lower clamp of VV and VH: some 20 dB under the noise floor that Sentinel-1 IW may have (-22 dB), where only the
remains of noise subtraction lie. What is darker carries no more information."""

HIGH_DB = (15.0, 10.0)
"""Upper clamp of VV and VH: strong double bounce in towns. What is brighter is a corner reflector, no surface."""


def validity(s1_BCHW: torch.Tensor) -> torch.Tensor:
    """Return bool [B, C, H, W]: True where a band was measured.

    One comparison does it: every comparison with NaN is false.

    Parameters
    ----------
    s1_BCHW
        Backscatter, dB, NaN where missing.
    """
    return s1_BCHW.abs() < MEASURABLE_DB


def encode(s1_BCHW: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, clamp: torch.Tensor) -> torch.Tensor:
    """Return what the network is given: scaled backscatter, zero where missing, and one validity channel per band.

    Missing values are replaced before any arithmetic, so that no NaN is ever inside a graph (quantisation reads the
    range of every value on the way).

    Parameters
    ----------
    s1_BCHW
        Backscatter [B, C, H, W], dB, float32, NaN where missing.
    mean, std
        Per band, dB, [1, C, 1, 1].
    clamp
        Lowest and highest value kept per band, dB, [2, 1, C, 1, 1].

    Returns
    -------
    torch.Tensor
        [B, 2 C, H, W], float32: C scaled bands, without unit, then C validity channels, 0 or 1.
    """
    valid = validity(s1_BCHW)
    filled = torch.where(valid, s1_BCHW, mean)
    scaled = (torch.minimum(torch.maximum(filled, clamp[0]), clamp[1]) - mean) / std
    return torch.cat([scaled, valid.to(s1_BCHW.dtype)], dim=1)


def constants(normalisation: Normalisation) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean, std and clamp as `encode` takes them, float32."""

    def per_band(values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)

    clamp = torch.stack([per_band(normalisation.low), per_band(normalisation.high)])
    return per_band(normalisation.mean), per_band(normalisation.std), clamp


def encode_phase(phase: torch.Tensor) -> torch.Tensor:
    """Return wrapped phase as a network takes it: a point on the unit circle, and whether it was measured.

    Parameters
    ----------
    phase
        [B, 1, H, W], rad, NaN where missing; any multiple of 2 pi may be added.

    Returns
    -------
    torch.Tensor
        [B, 3, H, W], float32: cosine and sine, 0 where missing, then 1 where measured and 0 elsewhere. 3.1 and -3.1 rad
        are neighbours in it, as they are on the ground.
    """
    measured = torch.isfinite(phase)
    angle = torch.where(measured, phase, torch.zeros_like(phase))
    valid = measured.to(phase.dtype)
    return torch.cat([torch.cos(angle) * valid, torch.sin(angle) * valid, valid], dim=1)
