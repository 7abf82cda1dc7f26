"""From pictures of interferograms back to wrapped phase: grey, diverging palette, and hue over amplitude.

Three renderings of LiCSAR interferograms are known, and nothing else is guessed at:

grey
    0..255 is -pi..pi, linear (DeepCube S1). Plateaus of 128 (zero phase) and 0 are fill.
palette
    ColorBrewer's RdYlBu reversed, 252 steps of 0.025 rad, dark blue at -pi, dark red at pi, drawn without blending;
    as it stands in 24 bits, or shrunk to 30 % and cut to the top 3 or 4 bits of each channel. Shrinking blends
    colours, and cutting blurs them, so that the 3-bit codes are inverted through a simulation of that chain.
hue
    16 hues of 22.5 degrees times the amplitude (rasmph_pwr of GAMMA). The first hue is zero phase, and phase grows in
    the order listed; measured against the grey picture of the same pair (correlation 0.994, offset -0.02 rad).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import NotARasterError, TocsinError, TooLargeError, TruncatedError, UsageError, WrongUnitsError
from tocsin.phase import wrap
from tocsin.phase_palette import chain, code_of, distance_to, on_grid

Rendering = Literal["grey", "palette_3bit", "palette_4bit", "palette_24bit", "hue", "blank"]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Phase = NDArray[np.float32]

# The nodes derived from ColorBrewer are within 2.5 levels of the palette as it was used.
PALETTE_TOLERANCE: Final = 4.0

# Hues of rasmph_pwr at one brightness, measured on the un-resized picture of C1; R + G + B is 2.21 times the largest.
HUES: Final = np.array(
    [
        (36, 170, 170), (61, 144, 170), (86, 119, 170), (111, 94, 170), (136, 69, 170), (162, 44, 170),
        (170, 53, 152), (170, 78, 127), (170, 104, 102), (170, 128, 77), (170, 154, 52), (160, 170, 46),
        (135, 170, 70), (110, 170, 96), (84, 170, 121), (60, 170, 146),
    ],
    dtype=np.float64,
)  # fmt: skip

# A code or chroma is taken as phase when the directions blended in it agree this well (length of the mean unit vector).
LEAST_RESULTANT: Final = 0.9
LEAST_CHROMA: Final = 0.7
# Beyond the curve of the hues nothing can lie but rounding.
MOST_CHROMA: Final = 1.08
DARKEST_SUM: Final = 60
# Refused above: of 458 real pictures of C1 none exceeds 0.0012.
MOST_UNEXPLAINED: Final = 0.02
# Refused below: the noisiest pictures of C1 have 0.27 in hues, 0.10 of them on the curve, of no fewer than 10 hues.
LEAST_COLOURED: Final = 0.2
LEAST_ON_CURVE: Final = 0.05
LEAST_HUES: Final = 8
# With so much on the curve few hues are enough: a flat interferogram has few.
FLAT_ON_CURVE: Final = 0.8
# Refused below: the palette's noisiest picture has 0.04 (mostly sea).
LEAST_PALETTE: Final = 0.01

# Plateaus of fill colour: at least so many pixels, and a surrounding that mostly does not continue their phase.
FILL_PX: Final = 64
FILL_WIDTH: Final = 5
MOST_PIXELS: Final = 50_000_000


@dataclass(frozen=True)
class PhasePicture:
    """What a picture says about phase, and how well it was understood.

    Attributes
    ----------
    phase
        float32 [row, col], rad, (-pi, pi], NaN where nothing was drawn, where the fill is or where colours of many
        phases were blended (noise).
    noisy_phase
        The same with the phase of the nearest colour where colours were blended: rasters and grey pictures hold noise
        as phase too.
    rendering
        How the picture was drawn; "blank" when it holds no colour at all.
    residual_levels
        Root mean square over channels, mean over pixels with phase, of the distance to the nearest colour of the
        rendering, in levels of 0..255; 0 for grey.
    unexplained
        Share of coloured pixels whose colour the rendering cannot give, 0..1.
    coherent
        Share of coloured pixels that have a phase, 0..1: an uncalibrated measure of coherence.
    """

    phase: Phase
    noisy_phase: Phase
    rendering: Rendering
    residual_levels: float
    unexplained: float
    coherent: float


def read_picture(path: str | Path) -> PhasePicture:
    """Read a PNG or TIFF picture of an interferogram.

    Raises
    ------
    UsageError
        When there is no such file.
    NotARasterError
        When it is no PNG or TIFF of 8 bits a channel.
    TruncatedError
        When pixels are missing.
    TooLargeError
        When it has more than 5e7 pixels.
    WrongUnitsError
        When it is drawn in none of the known ways.
    """
    rgba = _load(Path(path))
    opaque = rgba[..., 3] > 0
    if (np.ptp(rgba[..., :3], axis=2) == 0).all():
        return _from_grey(rgba[..., 0], opaque, str(path))
    return from_colours(rgba[..., :3], opaque, str(path))


def from_grey(grey: Bytes, opaque: Mask | None = None) -> Phase:
    """Return the phase of a grey picture: 0..255 is -pi..pi.

    Parameters
    ----------
    grey
        uint8 [row, col].
    opaque
        Where something was drawn; everywhere by default.

    Returns
    -------
    ndarray
        float32 [row, col], rad, (-pi, pi], within half a level (0.0123 rad) of what was drawn; NaN on fill.
    """
    phase = wrap((grey.astype(np.float32) * np.float32(2 * math.pi / 255)) - np.float32(math.pi))
    if opaque is not None:
        phase[~opaque] = np.nan
    for level in (128, 0):
        phase[_fill(grey == level, phase, 0.4)] = np.nan
    return phase


def from_colours(rgb: Bytes, opaque: Mask | None = None, name: str = "a picture") -> PhasePicture:
    """Return the phase of a coloured picture of any known rendering.

    Parameters
    ----------
    rgb
        uint8 [row, col, 3].
    opaque
        Where something was drawn; everywhere by default.
    name
        What errors call the picture.

    Raises
    ------
    WrongUnitsError
        When the colours are of no known rendering.
    """
    drawn = (rgb.max(axis=2) > 0) & (rgb.min(axis=2) < 255)
    if opaque is not None:
        drawn &= opaque
    colours = rgb[drawn]
    if not colours.size:
        return _blank(drawn.shape)
    # White is a phase of the palette as well as paper: it stays until its surroundings are known.
    white = (rgb.min(axis=2) == 255) & (True if opaque is None else opaque)
    if on_grid(colours, 3):
        return _from_palette(rgb, drawn, white, "palette_3bit", name)
    if on_grid(colours, 4):
        return _from_palette(rgb, drawn, white, "palette_4bit", name)
    if (distance_to(colours, 8)[0] <= PALETTE_TOLERANCE).mean() > 1 - MOST_UNEXPLAINED:
        return _from_palette(rgb, drawn, white, "palette_24bit", name)
    return _from_hues(rgb, drawn, name)


def _refuse(name: str, what: str) -> WrongUnitsError:
    """Return the error of a picture that is no interferogram."""
    return WrongUnitsError(
        given=f"{name}: {what}",
        expected="an interferogram drawn in grey, in the LiCSAR palette or in hues over amplitude",
        todo="pass a picture of wrapped phase, or its GeoTIFF (*.geo.diff_pha.tif)",
    )


def _blank(shape: tuple[int, ...]) -> PhasePicture:
    """Return a picture on which nothing is drawn."""
    nothing = np.full(shape, np.nan, np.float32)
    return PhasePicture(nothing, nothing, "blank", 0.0, 0.0, 0.0)


def _load(path: Path) -> Bytes:
    """Return the picture as uint8 [row, col, RGBA]."""
    from PIL import Image, UnidentifiedImageError

    accepted = {"expected": "a PNG or TIFF picture of 8 bits a channel", "todo": "pass a picture of an interferogram"}
    if not path.is_file():
        raise UsageError(given=f"{path}, which is no file", **accepted)
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise TooLargeError(
                    given=f"{path} of {image.width} x {image.height} pixels",
                    expected=f"at most {MOST_PIXELS:.0e} pixels",
                    todo="pass the GeoTIFF instead of its picture",
                )
            if image.mode not in {"L", "LA", "P", "RGB", "RGBA"}:
                raise NotARasterError(given=f"{path} of mode {image.mode}", **accepted)
            return np.asarray(image.convert("RGBA"))
    except UnidentifiedImageError as error:
        raise NotARasterError(given=f"{path} ({error})", **accepted) from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(given=f"{path} ({error})", expected="a picture", todo="pass the GeoTIFF instead") from error
    except TocsinError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise TruncatedError(given=f"{path} ({error})", **accepted) from error


def _from_grey(grey: Bytes, opaque: Mask, name: str) -> PhasePicture:
    """Return the phase of a grey picture; one without any but black and white is blank or no interferogram."""
    levels = np.unique(grey[opaque])
    if levels.size and not np.isin(levels, (0, 255)).all():
        phase = from_grey(grey, opaque)
        return PhasePicture(phase, phase, "grey", 0.0, 0.0, float(np.isfinite(phase[opaque]).mean()))
    if levels.size == 2:
        raise _refuse(name, "black and white only")
    return _blank(grey.shape)


def _from_palette(rgb: Bytes, drawn: Mask, white: Mask, rendering: Rendering, name: str) -> PhasePicture:
    """Invert the palette, through the simulated chain where only three bits are left."""
    simulated = chain()
    code = code_of(rgb)
    possible = simulated.possible[code]
    unexplained = float((~possible[drawn]).mean())
    distance = np.zeros(drawn.shape)
    bits = {"palette_3bit": 3, "palette_4bit": 4}.get(rendering, 8)
    distance[drawn], nearest = distance_to(rgb[drawn], bits)
    phase = np.full(drawn.shape, np.nan, np.float32)
    if rendering == "palette_3bit":
        kept = simulated.resultant[code] >= LEAST_RESULTANT
        phase = np.where(kept & (drawn | white), simulated.phase[code], np.float32(np.nan))
        phase[_fill(white, phase, 0.6)] = np.nan
    else:
        # One step of the four bits; a colour further off is a blend of many phases.
        reach = PALETTE_TOLERANCE if bits == 8 else 17.0
        phase[drawn] = np.where(distance[drawn] <= reach, nearest, np.nan)
    noisy = phase.copy()
    blended = drawn & np.isnan(phase)
    noisy[blended] = nearest[blended[drawn]]
    known = drawn & np.isfinite(phase)
    coherent = float(known.sum() / drawn.sum())
    if unexplained > MOST_UNEXPLAINED or coherent < LEAST_PALETTE:
        what = f"{unexplained:.0%} of its colours are not of the LiCSAR palette, {coherent:.0%} have a phase"
        raise _refuse(name, what)
    residual = float(distance[known].mean() / math.sqrt(3))
    return PhasePicture(wrap(phase), wrap(noisy), rendering, residual, unexplained, coherent)


def _from_hues(rgb: Bytes, drawn: Mask, name: str) -> PhasePicture:
    """Invert hue over amplitude: blending colours is linear, so that chroma acts as a complex number."""
    colour = rgb.astype(np.float64)
    total = colour.sum(axis=2)
    lit = drawn & (total > DARKEST_SUM)
    chroma = _chroma(colour) / np.maximum(total, 1)
    hues = _chroma(HUES) / HUES.sum(axis=1)
    angle = np.unwrap(np.angle(np.append(hues, hues[0])))
    turn = (np.angle(chroma) - angle[0]) % (2 * math.pi)
    phase = np.interp(turn, angle - angle[0], np.arange(len(angle)) * (2 * math.pi / len(hues)))
    radius = _radius(turn + angle[0], np.append(hues, hues[0]), angle)
    share = np.abs(chroma) / radius
    good = lit & (share >= LEAST_CHROMA) & (share <= MOST_CHROMA)
    unexplained = float((share[lit] > MOST_CHROMA).mean()) if lit.any() else 0.0
    coherent = float(good.sum() / max(int(lit.sum()), 1))
    # Photographs keep to few hues and to no curve; fringes and noise take all hues, flat phase lies on the curve.
    turns = np.bincount((phase[good] * (16 / (2 * math.pi))).astype(np.intp) % 16, minlength=16)
    hues_seen = int((turns > turns.sum() / 100).sum())
    on_curve = (np.abs(share - 1) < 0.06)[lit].mean() if lit.any() else 0
    alike = on_curve > LEAST_ON_CURVE and (hues_seen >= LEAST_HUES or on_curve > FLAT_ON_CURVE)
    if unexplained > MOST_UNEXPLAINED or coherent < LEAST_COLOURED or not alike:
        what = (
            f"{unexplained:.0%} of its colours are off the hues of phase, {coherent:.0%} have one of {hues_seen} hues"
        )
        raise _refuse(name, what)
    # For a difference v of colours with equal sum, |chroma|^2 is 1.5 |v|^2.
    residual = np.abs(share - 1) * radius * total / math.sqrt(1.5 * 3)
    known, noisy = (wrap(np.where(where, phase, np.nan).astype(np.float32)) for where in (good, lit))
    return PhasePicture(known, noisy, "hue", float(residual[good].mean()), unexplained, coherent)


def _chroma(colour: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return hue and saturation of colours [..., 3] as a complex number, 0 for grey."""
    red, green, blue = colour[..., 0], colour[..., 1], colour[..., 2]
    return np.asarray(red - (green + blue) / 2 + 1j * (math.sqrt(3) / 2) * (green - blue), np.complex128)


def _radius(
    angle: NDArray[np.float64], corners: NDArray[np.complex128], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance from grey to the closed polygon of the hues, in the given directions."""
    edge = np.clip(np.searchsorted(at, angle, side="right") - 1, 0, len(corners) - 2)
    start, side = corners[edge], corners[edge + 1] - corners[edge]
    return np.asarray((np.conj(start) * side).imag / (np.exp(-1j * angle) * side).imag)


def _fill(plateau: Mask, phase: Phase, near: float) -> Mask:
    """Return the connected plateaus that are paper, not phase: large, and not continued by what surrounds them.

    Parameters
    ----------
    plateau
        [row, col], pixels of one colour that stands for a phase and for fill.
    phase
        [row, col], rad, of all pixels.
    near
        A neighbour within so many rad continues the plateau.
    """
    from scipy import ndimage

    # Bands of the plateau's own phase may touch paper: they are thin, and opening parts them from it.
    core = ndimage.binary_opening(plateau, np.ones((FILL_WIDTH, FILL_WIDTH), np.bool_))
    label, count = ndimage.label(core)
    if not count:
        return np.zeros_like(plateau)
    size = np.bincount(label.ravel(), minlength=count + 1)
    continued, edge = np.zeros(count + 1), np.zeros(count + 1)
    for inner, outer in _neighbours():
        inside = label[inner]
        border = (inside > 0) & ~plateau[outer]
        gap = np.abs(wrap(phase[outer] - phase[inner]))[border]
        edge += np.bincount(inside[border], minlength=count + 1)
        continued += np.bincount(inside[border], weights=gap <= near, minlength=count + 1)
    fill = (size >= FILL_PX) & (2 * continued <= edge)
    fill[0] = False
    return np.asarray(ndimage.binary_dilation(fill[label], iterations=FILL_WIDTH, mask=plateau))


def _neighbours() -> list[tuple[Any, Any]]:
    """Return pairs of slices: a pixel, and its neighbour on each of four sides."""
    whole, first, last = slice(None), slice(None, -1), slice(1, None)
    return [
        ((first, whole), (last, whole)),
        ((last, whole), (first, whole)),
        ((whole, first), (whole, last)),
        ((whole, last), (whole, first)),
    ]
