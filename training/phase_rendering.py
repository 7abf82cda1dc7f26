"""What previews do to phase, for training chips: palettes of few bits, blended noise, white paper.

Real interferograms reach people, and data sets, as small pictures. A network that never saw what drawing does to phase
takes it for a signal. Each function maps float32 [H, W], rad, NaN where missing, to the same.
"""

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.phase_palette import PALETTE_END, PALETTE_STEP, chain, code_of, cut_to, distance_to, palette_colours

Phase = NDArray[np.float32]

BITS: Final = 3
HUES: Final = 16
WHITE: Final = (-0.575, -0.375)
"""Phases whose colour, cut to three bits, is white: rad."""
NOISE_RESULTANT: Final = 0.5
"""Mean unit vector over 3 x 3 pixels below which colours blend (0.33 on average in pure noise)."""
NOISE_DRAWS: Final = 8192
SHRUNK_SIDE: Final = 20
"""Full pixels that Lanczos shrinking to 30 % weighs, along each axis."""


def as_palette(phase: Phase, random: np.random.Generator) -> Phase:
    """Return phase in [-pi, pi] as a preview of three bits a channel gives it back, noise blended into few colours."""
    measured = np.isfinite(phase)
    step = (np.where(measured, phase, np.float32(0)) + np.float32(PALETTE_END)) * np.float32(1 / PALETTE_STEP)
    drawn = palette_phases()[step.astype(np.intp)]
    noisy = resultant(phase) < NOISE_RESULTANT
    blended = blended_noise()
    drawn[noisy] = blended[random.integers(len(blended), size=int(noisy.sum()))]
    drawn[~measured] = np.nan
    return drawn


def as_hues(phase: Phase, start_rad: float) -> Phase:
    """Return phase in steps of 22.5 degrees, as a rendering in 16 hues gives it back."""
    step = 2 * math.pi / HUES
    return np.asarray(np.round((phase - start_rad) / step) * step + start_rad, np.float32)


def without_white(phase: Phase) -> Phase:
    """Return phase with what is drawn white missing, as where paper cannot be told from it."""
    return np.where((phase > WHITE[0]) & (phase < WHITE[1]), np.float32(np.nan), phase)


def resultant(phase: Phase) -> Phase:
    """Return the length of the mean unit vector over 3 x 3 pixels, 0..1; what is missing weighs nothing."""
    measured = np.isfinite(phase)
    angle = np.where(measured, phase, np.float32(0))
    cosine, sine = (_summed(np.where(measured, part, np.float32(0))) for part in (np.cos(angle), np.sin(angle)))
    return np.asarray(np.hypot(cosine, sine) / np.maximum(_summed(measured.astype(np.float32)), 1), np.float32)


def _summed(layer: Phase) -> Phase:
    """Return sums over 3 x 3 pixels, fewer at edges; slices are ten times as fast as a filter of scipy here."""
    down = layer.copy()
    down[1:] += layer[:-1]
    down[:-1] += layer[1:]
    across = down.copy()
    across[:, 1:] += down[:, :-1]
    across[:, :-1] += down[:, 1:]
    return across


@functools.cache
def palette_phases() -> Phase:
    """Return the phase that is read back for each of the palette's 252 steps, float32 [252], rad."""
    colours = cut_to(np.rint(palette_colours()[1]).astype(np.int64), BITS)
    return chain().phase[code_of(colours.astype(np.uint8))]


@functools.cache
def blended_noise() -> Phase:
    """Return draws of the phase that is read back from shrunk noise, float32 [draws], rad.

    Measured on the coloured previews of C1: the four commonest phases have shares of 0.48, 0.26, 0.13 and 0.06 there,
    and 0.46, 0.25, 0.12 and 0.07 here.
    """
    random = np.random.default_rng(0)
    offset = np.arange(SHRUNK_SIDE) - (SHRUNK_SIDE - 1) / 2
    kernel = np.sinc(offset * 0.3) * np.sinc(offset * 0.1)
    weight = np.outer(kernel, kernel).ravel() / kernel.sum() ** 2
    palette = palette_colours()[1]
    shrunk = []
    for _ in range(NOISE_DRAWS // 512):
        field = random.uniform(-math.pi, math.pi, (512, weight.size))
        step = ((field + PALETTE_END) / PALETTE_STEP).astype(np.intp)
        shrunk.append(np.einsum("npc,p->nc", palette[step], weight))
    levels = cut_to(np.clip(np.rint(np.concatenate(shrunk)), 0, 255).astype(np.int64), BITS)
    return distance_to(levels.astype(np.uint8), BITS)[1]
