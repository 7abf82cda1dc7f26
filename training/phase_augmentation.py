"""What may happen to an interferogram without changing whether, where and why the ground moves.

Every change has a cause: another pass or flight direction (turns and mirrors), deflation in place of inflation (the
sign of all phase), another reference point (a constant), a preview in place of the raster (colours of few bits), a
scene that ends inside the chip. Brightness, contrast and blur have none, and would break the wrap.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.phase_rendering import as_hues, as_palette, without_white

Phase = NDArray[np.float32]
Mask = NDArray[np.bool_]


class PhaseAugmentation(BaseModel):
    """How often each change happens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    palette_share: float = Field(0.4, ge=0, le=1, description="Chips as a preview in a palette of three bits.")
    hue_share: float = Field(0.1, ge=0, le=1, description="Chips as a preview in sixteen hues.")
    white_share: float = Field(0.15, ge=0, le=1, description="Chips whose white phase is missing.")
    border_share: float = Field(0.15, ge=0, le=1, description="Chips that the scene's border cuts.")
    border_px: tuple[int, int] = Field((10, 150), description="Rows or columns beyond the border.")


def augment_phase(
    phase: Phase, mask: Mask, settings: PhaseAugmentation, random: np.random.Generator
) -> tuple[Phase, Mask]:
    """Return a chip and its mask as they might as well have been.

    Parameters
    ----------
    phase, mask
        float32 and bool [H, W], square; phase in rad, NaN where missing.
    settings
        Shares.
    random
        Where to draw from.

    Returns
    -------
    tuple
        Phase in [-pi, pi] and mask, of the same shape.
    """
    turns = int(random.integers(4))
    phase, mask = np.rot90(phase, turns), np.rot90(mask, turns)
    if random.random() < 0.5:
        phase, mask = phase[:, ::-1], mask[:, ::-1]
    sign = 1 if random.random() < 0.5 else -1
    phase = _around(sign * phase + np.float32(random.uniform(-math.pi, math.pi)))
    draw = random.random()
    if draw < settings.palette_share:
        phase = as_palette(phase, random)
    elif draw < settings.palette_share + settings.hue_share:
        phase = _around(as_hues(phase, random.uniform(0, 1)))
    if random.random() < settings.white_share:
        phase = without_white(phase)
    if random.random() < settings.border_share:
        phase = _cut(phase, settings, random)
    return np.ascontiguousarray(phase), np.ascontiguousarray(mask)


def _around(phase: Phase) -> Phase:
    """Return phase in [-pi, pi], good enough for a network that takes its sine and cosine."""
    turn = np.float32(2 * math.pi)
    return np.asarray(phase - turn * np.rint(phase / turn), np.float32)


def _cut(phase: Phase, settings: PhaseAugmentation, random: np.random.Generator) -> Phase:
    """Return phase with one side missing."""
    phase = phase.copy()
    beyond = int(random.integers(*settings.border_px))
    view = np.rot90(phase, int(random.integers(4)))
    view[:beyond] = np.nan
    return phase
