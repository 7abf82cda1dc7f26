"""The landslide network: backscatter before and after an event, and terrain, into density and a mask.

Every acquisition goes through one encoder, the acquisitions of a side are pooled without regard to their order, and one
U-Net makes an embedding of either side: it is what the first stage of training teaches. The second U-Net joins both
embeddings with the change itself and the terrain.

Raw units come in: what is missing becomes zero beside a validity channel before anything else, so that one NaN changes
no pixel but those nearby, and those only as a missing value would.

Shape suffixes: B batch, A acquisitions, P polarisations (VV, VH), C channels, H rows, W columns.
"""

import math
from abc import ABC, abstractmethod
from typing import Final, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from tocsin.hazards.landslide import ACQUISITIONS, BANDS, GSD_M
from training.networks.blocks import convolution
from training.networks.encoders import EncoderConfig
from training.networks.unet import UNetBody

CLASSES: Final = 3
"""None, low, high."""

LOG_DENSITY: Final = (-9.0, 7.0)
"""Bounds of the natural logarithm of landslides per km2: from none in a country to more than ground can hold."""

STEEPEST: Final = 4.0
"""Largest slope that is believed, 76 deg: what is steeper is a spike or a void filled with something else."""

_LEVEL_CHANNELS: Final = 2 * len(BANDS)
_TERRAIN_CHANNELS: Final = 5
_PER_DB: Final = math.log(10) / 10


class LandslideConfig(BaseModel):
    """Widths of the network, and constants that bring its inputs to order one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    acquisition_width: int = Field(
        16, ge=4, le=64, description="Channels of an encoded acquisition, at full resolution."
    )
    side_widths: tuple[int, ...] = Field(
        (24, 48, 64), min_length=1, max_length=5, description="Stages of the U-Net of a side, from half resolution."
    )
    embedding: int = Field(
        32, ge=8, le=64, description="Channels of the embedding of a side; its mean backscatter is among them."
    )
    widths: tuple[int, ...] = Field(
        (40, 64, 96, 160),
        min_length=1,
        max_length=6,
        description="Stages of the U-Net of change, from half resolution.",
    )
    refined: int = Field(16, ge=4, le=64, description="Channels in which the mask comes back to full resolution.")
    hidden: int = Field(96, ge=4, le=512, description="Hidden channels of the head of density.")
    windows: tuple[int, ...] = Field(
        (1, 5, 15), min_length=1, max_length=5, description="Odd sides of the windows that change is measured over, px."
    )
    range_db: tuple[float, float] = Field((-35.0, 10.0), description="Range that backscatter is cut to, dB.")
    mean_db: tuple[float, float] = Field((-10.5, -17.0), description="Typical VV and VH, dB.")
    spread_db: float = Field(4.5, gt=0, description="Divisor of backscatter, dB.")
    change_db: float = Field(3.0, gt=0, description="Divisor of changes, dB.")
    relief_m: float = Field(200.0, gt=0, description="Divisor of heights over the mean of the chip, m.")
    encoder: EncoderConfig | None = Field(
        None, description="An encoder, pretrained or not, that embeds a side in place of a U-Net; None: the U-Net."
    )

    @property
    def learnt_channels(self) -> int:
        """Channels of the embedding of a side that are learnt, beside its mean backscatter and its looks."""
        return self.embedding - _LEVEL_CHANNELS


class LandslideLogits(NamedTuple):
    """What the network says of a batch, before calibration.

    Attributes
    ----------
    density_class
        [B, 3] logits of none, low and high.
    log_density
        [B] natural logarithm of landslides per km2.
    mask
        [B, 1, H, W] log odds of a landslide at each pixel.
    """

    density_class: Tensor
    log_density: Tensor
    mask: Tensor


class Seen(NamedTuple):
    """What is measured before anything is learnt.

    Attributes
    ----------
    acquisitions
        [B, 2 A, 2 P, H, W]: both sides, scaled backscatter and validity of each band; zero where missing.
    present
        [B, 2 A, 1, H, W]: 1 where either band is valid.
    power
        [B, 2, P, H, W]: mean linear power of each side over its valid acquisitions; zero where there is none.
    share
        [B, 2, P, H, W]: share of the places for acquisitions that are valid.
    """

    acquisitions: Tensor
    present: Tensor
    power: Tensor
    share: Tensor


class LandslideNetwork(nn.Module):
    """Shared encoder, pooling, embedding of a side, change, terrain, and three heads.

    Parameters
    ----------
    config
        See `LandslideConfig`.
    """

    def __init__(self, config: LandslideConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding_of(config)
        measured = len(BANDS) * (len(config.windows) + 3) + _TERRAIN_CHANNELS
        self.change = UNetBody(2 * config.embedding + measured, config.widths)
        finest, deepest = config.widths[0], config.widths[-1]
        self.narrow = convolution(finest, config.refined, kernel=1)
        self.refine = nn.Sequential(
            convolution(config.refined + measured, config.refined), convolution(config.refined, config.refined)
        )
        self.mask = nn.Conv2d(config.refined, 1, 1)
        # Mean and maximum: how much there is, and whether there is any.
        self.density = nn.Sequential(
            nn.Linear(2 * (finest + deepest), config.hidden), nn.ReLU(), nn.Linear(config.hidden, CLASSES + 1)
        )

    def forward(self, pre_BAPHW: Tensor, post_BAPHW: Tensor, dem_B1HW: Tensor) -> LandslideLogits:
        """Map backscatter in dB before and after, [B, 3, 2, H, W], and heights in m, [B, 1, H, W], to logits."""
        seen = measure(pre_BAPHW, post_BAPHW, self.config)
        embedded_BCHW = self.embedding(seen)
        measured_BCHW = torch.cat([change_channels(seen, self.config), terrain(dem_B1HW, self.config.relief_m)], dim=1)
        measured_BCHW = measured_BCHW.to(embedded_BCHW.dtype)
        halved_BCHW = nn.functional.avg_pool2d(measured_BCHW, 2)
        deepest_BCHW, finest_BCHW = self.change(torch.cat([embedded_BCHW, halved_BCHW], dim=1))
        wide_BCHW = nn.functional.interpolate(self.narrow(finest_BCHW), scale_factor=2.0, mode="nearest")
        mask_B1HW = self.mask(self.refine(torch.cat([wide_BCHW, measured_BCHW], dim=1)))
        both_B1HW = judged(seen)
        pooled_BC = torch.cat([pool(finest_BCHW, both_B1HW), pool(deepest_BCHW, both_B1HW)], dim=1)
        said_BC = self.density(pooled_BC)
        log_density_B = said_BC[:, CLASSES].float().clamp(*LOG_DENSITY)
        return LandslideLogits(said_BC[:, :CLASSES].float(), log_density_B, mask_B1HW.float())


class Embedding(nn.Module, ABC):
    """The embedding of each side, and whether both together show any landslide, which is what the first stage teaches.

    Attributes
    ----------
    any
        Maps both embeddings to log odds at each pixel.
    """

    any: nn.Module

    @abstractmethod
    def forward(self, seen: Seen) -> Tensor:
        """Return the embeddings before and after side by side, [B, 2 C, H / 2, W / 2]."""

    def contains_any(self, seen: Seen) -> Tensor:
        """Return the log odds of any landslide in each chip, [B]: the mean over pixels that both sides show."""
        map_B1HW: Tensor = self.any(self(seen)).float()
        weight = nn.functional.avg_pool2d(judged(seen), 2)
        return (map_B1HW * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp_min(1)


def embedding_of(config: LandslideConfig) -> Embedding:
    """Return the embedding that a configuration describes."""
    if config.encoder is None:
        return SideEmbedding(config)
    from training.networks.landslide_encoder import EncoderEmbedding

    return EncoderEmbedding(config, config.encoder)


def any_head(config: LandslideConfig) -> nn.Sequential:
    """Return what maps both embeddings to log odds at each pixel."""
    return nn.Sequential(convolution(2 * config.embedding, config.embedding), nn.Conv2d(config.embedding, 1, 1))


class SideEmbedding(Embedding):
    """The embedding of a side by a U-Net over its pooled acquisitions.

    Parameters
    ----------
    config
        See `LandslideConfig`.
    """

    def __init__(self, config: LandslideConfig) -> None:
        super().__init__()
        self.config = config
        width = config.acquisition_width
        # Without batch normalisation: acquisitions that are not there would take part in its statistics.
        self.encoder = nn.Sequential(
            nn.Conv2d(2 * len(BANDS), width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        self.side = UNetBody(2 * width + _LEVEL_CHANNELS, config.side_widths)
        self.out = nn.Conv2d(config.side_widths[0], config.learnt_channels, 1)
        self.any = any_head(config)

    def forward(self, seen: Seen) -> Tensor:
        """Return the embeddings before and after side by side, [B, 2 C, H / 2, W / 2]."""
        batch, places = seen.acquisitions.shape[:2]
        present = nn.functional.avg_pool2d(seen.present.flatten(0, 1), 2)
        encoded = self.encoder(seen.acquisitions.flatten(0, 1))
        present = present.to(encoded.dtype)
        # Features are not negative: what is absent is zero, and no maximum.
        weighted = _by_side(encoded * present, batch, places)
        mean = _added(weighted) / _added(_by_side(present, batch, places)).clamp_min(1e-3)
        most = _largest(_by_side(encoded * (present > 0), batch, places))
        level = levels(seen, self.config).to(encoded.dtype)
        _, finest = self.side(torch.cat([mean, most, level], dim=1))
        embedded: Tensor = torch.cat([self.out(finest), level], dim=1)
        return embedded.reshape(batch, -1, *finest.shape[-2:])


def levels(seen: Seen, config: LandslideConfig) -> Tensor:
    """Return the mean backscatter of each side and its looks, [B 2, C, H / 2, W / 2]."""
    both = torch.cat([_scaled(db(seen.power), config) * (seen.share > 0), seen.share], dim=2)
    return nn.functional.avg_pool2d(both.flatten(0, 1), 2)


def measure(pre_BAPHW: Tensor, post_BAPHW: Tensor, config: LandslideConfig) -> Seen:
    """Mask what is missing and average each side in linear power."""
    given = torch.cat([pre_BAPHW, post_BAPHW], dim=1)
    there = ~torch.isnan(given)
    valid = there.to(given.dtype)
    cut_db = torch.where(there, given, torch.zeros_like(given)).clamp(*config.range_db)
    power = torch.exp(cut_db * _PER_DB) * valid
    batch, places, bands, rows, cols = given.shape
    sides = (batch, 2, places // 2, bands, rows, cols)
    number = valid.reshape(sides).sum(dim=2)
    return Seen(
        acquisitions=torch.cat([_scaled(cut_db, config) * valid, valid], dim=2),
        present=valid.amax(dim=2, keepdim=True),
        power=power.reshape(sides).sum(dim=2) / number.clamp_min(1),
        share=number / ACQUISITIONS,
    )


def _by_side(values: Tensor, batch: int, places: int) -> tuple[Tensor, ...]:
    """Return the acquisitions [B 2 A, C, H, W] of both sides one by one, each [B 2, C, H, W]."""
    return values.reshape(2 * batch, places // 2, *values.shape[1:]).unbind(dim=1)


def _added(values: tuple[Tensor, ...]) -> Tensor:
    """Return the sum; adding one by one keeps the precision of the values, and is quicker than over an axis."""
    total = values[0]
    for each in values[1:]:
        total = total + each
    return total


def _largest(values: tuple[Tensor, ...]) -> Tensor:
    """Return the largest value at each place."""
    most = values[0]
    for each in values[1:]:
        most = torch.maximum(most, each)
    return most


def judged(seen: Seen) -> Tensor:
    """Return where either band is valid on both sides, [B, 1, H, W], 0 or 1: elsewhere no change can be seen."""
    both = (seen.share > 0).to(seen.share.dtype).amax(dim=2)
    return both.prod(dim=1, keepdim=True)


def change_channels(seen: Seen, config: LandslideConfig) -> Tensor:
    """Return change over several windows, the level before, and how many looks each side has, [B, C, H, W].

    Change is the logarithm of a ratio of mean powers, over pixels that are valid on both sides.
    """
    both_BPHW = (seen.share > 0).to(seen.power.dtype).prod(dim=1)
    before, after = (seen.power[:, side] * both_BPHW for side in (0, 1))
    summed = torch.cat([before, after, both_BPHW], dim=1)
    channels = []
    for window in config.windows:
        mean_before, mean_after, number = _windowed(summed, window).chunk(3, dim=1)
        ratio_db = db(mean_after) - db(mean_before)
        channels.append(torch.where(number > 0, ratio_db, torch.zeros_like(ratio_db)) / config.change_db)
    level = _scaled(db(before)[:, None], config)[:, 0] * both_BPHW
    return torch.cat([*channels, level, seen.share.flatten(1, 2)], dim=1)


def terrain(dem_B1HW: Tensor, relief_m: float) -> Tensor:
    """Return steepness, slope southward and eastward, relief over the mean of the chip, and validity, [B, 5, H, W].

    Slopes are central differences, one-sided beside a void; zero where there is no neighbour; at most `STEEPEST`.
    """
    there = ~torch.isnan(dem_B1HW)
    valid = there.to(dem_B1HW.dtype)
    height = torch.where(there, dem_B1HW, torch.zeros_like(dem_B1HW))
    mean = height.sum(dim=(2, 3), keepdim=True) / valid.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    relief = (height - mean) * valid
    southward, eastward = ((_slope(relief, valid, dim) / GSD_M).clamp(-STEEPEST, STEEPEST) for dim in (2, 3))
    steepness = torch.sqrt(southward**2 + eastward**2 + 1e-12) * valid
    # No chip is higher than it is wide at the steepest slope.
    most = STEEPEST * relief.shape[-1] * GSD_M / 2
    return torch.cat([steepness, southward, eastward, relief.clamp(-most, most) / relief_m, valid], dim=1)


def pool(features_BCHW: Tensor, weight_B1HW: Tensor) -> Tensor:
    """Return mean and maximum over what both sides show, joined: [B, 2 C].

    Parameters
    ----------
    features_BCHW
        [B, C, H / stride, W / stride], not negative.
    weight_B1HW
        [B, 1, H, W], 0 or 1.
    """
    weight = nn.functional.avg_pool2d(weight_B1HW, weight_B1HW.shape[-1] // features_BCHW.shape[-1])
    seen = features_BCHW.float() * weight
    mean = seen.sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1)
    return torch.cat([mean, (features_BCHW.float() * (weight > 0)).amax(dim=(2, 3))], dim=1)


def _slope(relief: Tensor, valid: Tensor, dim: int) -> Tensor:
    """Return the difference per pixel along an axis, from the neighbours that are known."""
    size = relief.shape[dim]
    step = (relief.narrow(dim, 1, size - 1) - relief.narrow(dim, 0, size - 1)) * (
        valid.narrow(dim, 1, size - 1) * valid.narrow(dim, 0, size - 1)
    )
    known = valid.narrow(dim, 1, size - 1) * valid.narrow(dim, 0, size - 1)
    nothing = torch.zeros_like(step.narrow(dim, 0, 1))
    total = torch.cat([step, nothing], dim) + torch.cat([nothing, step], dim)
    number = torch.cat([known, nothing], dim) + torch.cat([nothing, known], dim)
    return total / number.clamp_min(1)


def _windowed(value_BPHW: Tensor, window: int) -> Tensor:
    """Return the mean over a window around each pixel; outside the chip there is zero."""
    if window == 1:
        return value_BPHW
    # Rows and columns one after the other: a mean over both at once takes ten times as long.
    half = window // 2
    rows = nn.functional.avg_pool2d(value_BPHW, (window, 1), stride=1, padding=(half, 0))
    return nn.functional.avg_pool2d(rows, (1, window), stride=1, padding=(0, half))


def db(power: Tensor) -> Tensor:
    """Return linear power in dB, at least -60."""
    return torch.log(power.clamp_min(1e-6)) / _PER_DB


def _scaled(value_db: Tensor, config: LandslideConfig) -> Tensor:
    """Return backscatter [..., P, H, W] of order one."""
    mean = torch.tensor(config.mean_db, dtype=value_db.dtype, device=value_db.device)[:, None, None]
    return (value_db - mean) / config.spread_db
