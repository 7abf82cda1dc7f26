"""The palette of LiCSAR previews: its colours, what is left of them in few bits, and what shrinking makes of them."""

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# ColorBrewer 2.0, RdYlBu with 11 classes (Brewer and Harrower), reversed: blue, cream, red.
BREWER: Final = np.array(
    [
        (49, 54, 149), (69, 117, 180), (116, 173, 209), (171, 217, 233), (224, 243, 248), (255, 255, 191),
        (254, 224, 144), (253, 174, 97), (244, 109, 67), (215, 48, 39), (165, 0, 38),
    ],
    dtype=np.float64,
)  # fmt: skip
# The palette was drawn through 20 colours out of a table of 256, then cut into steps of 0.025 rad from -3.15 to 3.15.
PALETTE_NODES: Final = 20
PALETTE_STEP: Final = 0.025
PALETTE_END: Final = 3.15


def on_grid(colours: Bytes, bits: int) -> bool:
    """Tell whether all colours were cut to their top bits, these repeated below."""
    return bool(np.isin(colours, cut_to(np.arange(256), bits)).all())


def cut_to(levels: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Return levels 0..255 with their top bits kept and stretched over the range again, as ImageMagick does."""
    return np.asarray(np.rint((levels >> (8 - bits)) * 255 / (2**bits - 1)), np.int64)


def code_of(rgb: Bytes) -> NDArray[np.intp]:
    """Return the top three bits of each channel of uint8 [..., 3] as one number below 512."""
    top = (rgb >> 5).astype(np.intp)
    return np.asarray(top @ np.array([64, 8, 1]), np.intp)


@functools.cache
def palette_colours() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the phases [252], rad, and the colours [252, 3], float64 0..255, of the palette."""
    place = np.minimum(np.floor(np.arange(PALETTE_NODES) / (PALETTE_NODES - 1) * 256), 255) / 255 * (len(BREWER) - 1)
    nodes = np.stack([np.floor(np.interp(place, np.arange(len(BREWER)), channel)) for channel in BREWER.T])
    steps = round(2 * PALETTE_END / PALETTE_STEP)
    phase = -PALETTE_END + PALETTE_STEP * (np.arange(steps) + 0.5)
    along = (phase / PALETTE_END + 1) / 2 * (PALETTE_NODES - 1)
    return phase, np.stack([np.interp(along, np.arange(PALETTE_NODES), node) for node in nodes], axis=1)


def distance_to(colours: Bytes, bits: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return for colours [n, 3] the distance to the palette cut to some bits, in levels, and the phase there, rad."""
    from scipy.spatial import cKDTree

    phase, palette = palette_colours()
    cut, which = np.unique(cut_to(np.rint(palette).astype(np.int64), bits), axis=0, return_inverse=True)
    vector = np.zeros(len(cut), np.complex128)
    np.add.at(vector, which.reshape(-1), np.exp(1j * phase))
    found, where = np.unique(colours @ np.array([65536, 256, 1]), return_inverse=True)
    found_rgb = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    distance, nearest = (np.asarray(part) for part in cKDTree(cut).query(found_rgb))
    return distance[where.reshape(-1)], np.angle(vector)[nearest][where.reshape(-1)].astype(np.float32)


@dataclass(frozen=True)
class Chain:
    """What the chain of shrinking and cutting makes of phase, for each of 512 codes.

    Attributes
    ----------
    phase
        float32 [512], rad, circular mean of the phases that gave the code.
    resultant
        float64 [512], how well these agree, 0..1.
    possible
        bool [512], whether anything gave the code, noise included.
    """

    phase: NDArray[np.float32]
    resultant: NDArray[np.float64]
    possible: NDArray[np.bool_]


@functools.cache
def chain() -> Chain:
    """Simulate the chain: fringes and noise of many kinds, drawn, shrunk to 30 % (Lanczos), cut to three bits.

    Gradients up to 0.3 rad per full pixel, noise of 0 to 0.6 rad, and as much pure noise as any of these; equal shares
    are our choice. The code's phase is the circular mean of the phases at the centre of the pixels that got it.
    """
    random = np.random.default_rng(0)
    offset = np.arange(-9.5, 10)
    kernel = np.sinc(offset * 0.3) * np.sinc(offset * 0.1)
    weight = np.outer(kernel, kernel).ravel() / kernel.sum() ** 2
    rows, cols = (axis.ravel() for axis in np.meshgrid(offset, offset, indexing="ij"))
    _, palette = palette_colours()
    vector, count = np.zeros(512, np.complex128), np.zeros(512)
    for noise in (0.0, 0.0, 0.15, 0.3, 0.6, math.inf):
        for _ in range(6):
            centre = (np.arange(720) + random.random(720)) / 720 * 2 * math.pi - math.pi
            slope, heading = 0.3 * random.random(720), 2 * math.pi * random.random(720)
            field = centre[:, None] + slope[:, None] * (
                np.cos(heading)[:, None] * cols + np.sin(heading)[:, None] * rows
            )
            scatter = random.standard_normal(field.shape)
            field = field + noise * scatter if math.isfinite(noise) else 2 * math.pi * random.random(field.shape)
            step = ((field + math.pi) % (2 * math.pi) - math.pi + PALETTE_END) / PALETTE_STEP
            shrunk = np.einsum("npc,p->nc", palette[step.astype(np.intp)], weight)
            code = code_of(np.clip(np.rint(shrunk), 0, 255).astype(np.uint8))
            np.add.at(vector, code, np.exp(1j * centre) if math.isfinite(noise) else 0)
            np.add.at(count, code, 1)
    mean = vector / np.maximum(count, 1)
    return Chain(np.angle(vector).astype(np.float32), np.abs(mean), count > 0)
