"""What may differ between two views of one place, by kind of band: only what physics or processing changes.

Two views teach a network what does not matter. So every change has a cause, and nothing else happens:

- *Backscatter* (dB): a calibration offset common to all bands or of one band; a ramp across the swath, since incidence
  differs; other speckle, multiplied in linear power; speckle that a filter took away, averaged in linear power. No
  colour jitter, contrast, solarisation or grey: dB are a measurement, and factors on them have no cause.
- *Phase* (wrapped, rad): another reference point (a constant), the pair in the other order (the sign of all phase), an
  orbit that is a little wrong (a plane), another atmosphere (a field whose spectrum falls as a power of wavenumber),
  more decorrelation (noise on the unit circle). All are added and wrapped again; nothing ever scales or averages phase
  across the wrap, blurs it, or shifts its colours.
- *Reflectance*: one gain and one haze for all bands, as sun and air give; never a band against another.
- *Ratio*, *coherence* and *height*: as measured.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import uniform_filter

from tocsin.phase import wrap
from tocsin.simulate import NumpyRandom
from tocsin.simulate.fields import power_law_field
from training.bands import Kind
from training.recipe_parts import Part

FloatArray = NDArray[np.float32]

ATMOSPHERE_EXPONENT = 8 / 3
"""Two-dimensional spectral exponent of turbulent delay (Hanssen 2001, section 4.7)."""


class BackscatterChanges(Part):
    """How backscatter may differ."""

    offset_db: float = Field(1.0, ge=0, le=5, description="Std of an offset common to all bands, dB.")
    band_offset_db: float = Field(0.3, ge=0, le=5, description="Std of an offset of each band alone, dB.")
    ramp_db: float = Field(1.0, ge=0, le=5, description="Std of the difference between both edges of the swath, dB.")
    looks: tuple[float, float] | None = Field(
        (10.0, 60.0), description="Looks of the speckle that is multiplied in, from and below; None: none."
    )
    smoothed_share: float = Field(0.2, ge=0, le=1, description="Share of views whose speckle is averaged over 3 px.")


class PhaseChanges(Part):
    """How wrapped phase may differ."""

    reference: bool = Field(default=True, description="Another reference point: a constant anywhere on the circle.")
    sign: bool = Field(default=True, description="The pair in the other order: the sign of all phase.")
    ramp_fringes: float = Field(0.5, ge=0, le=5, description="Std of fringes of a plane across the chip, on each axis.")
    atmosphere_rad: float = Field(0.7, ge=0, le=6, description="Largest standard deviation of the delay, rad.")
    noise_rad: float = Field(0.5, ge=0, le=3, description="Largest standard deviation of the noise, rad.")


class ReflectanceChanges(Part):
    """How reflectance may differ."""

    gain: float = Field(0.05, ge=0, le=0.5, description="Std of the logarithm of a factor common to all bands.")
    haze: float = Field(0.01, ge=0, le=0.2, description="Std of what air adds to all bands, reflectance.")


class Changes(Part):
    """All of them, by kind."""

    backscatter: BackscatterChanges = BackscatterChanges()
    phase: PhaseChanges = PhaseChanges()
    reflectance: ReflectanceChanges = ReflectanceChanges()


UNCHANGED = Changes(
    backscatter=BackscatterChanges(offset_db=0, band_offset_db=0, ramp_db=0, looks=None, smoothed_share=0),
    phase=PhaseChanges(reference=False, sign=False, ramp_fringes=0, atmosphere_rad=0, noise_rad=0),
    reflectance=ReflectanceChanges(gain=0, haze=0),
)
"""Nothing but where a view is cut."""


def changed(values: FloatArray, kinds: tuple[Kind, ...], changes: Changes, random: np.random.Generator) -> FloatArray:
    """Return a view as it might as well have been measured; what is missing stays missing, and nothing else is.

    Parameters
    ----------
    values
        float32 [band, row, col], NaN where missing.
    kinds
        Of each band.
    changes
        What may happen.
    random
        Where to draw from.
    """
    out = values.copy()
    for kind in ("backscatter", "phase", "reflectance"):
        at = [index for index, each in enumerate(kinds) if each == kind]
        if not at:
            continue
        if kind == "backscatter":
            out[at] = _backscatter(values[at], changes.backscatter, random)
        elif kind == "phase":
            out[at] = _phase(values[at], changes.phase, random)
        else:
            out[at] = _reflectance(values[at], changes.reflectance, random)
    return out


def _backscatter(values_db: FloatArray, settings: BackscatterChanges, random: np.random.Generator) -> FloatArray:
    """Return backscatter with another calibration, incidence and speckle; all bands share the ramp."""
    bands, _, cols = values_db.shape
    if settings.looks is not None:
        looks = math.exp(random.uniform(*np.log(settings.looks)))
        speckle = random.gamma(looks, 1 / looks, values_db.shape)
        values_db = values_db + 10 * np.log10(np.maximum(speckle, 1e-6))
    if random.random() < settings.smoothed_share:
        values_db = _averaged(values_db)
    offset = random.normal(0, settings.offset_db) + random.normal(0, settings.band_offset_db, (bands, 1, 1))
    ramp = random.normal(0, settings.ramp_db) * np.linspace(-0.5, 0.5, cols)
    return np.asarray(values_db + offset + ramp, np.float32)


def _averaged(values_db: FloatArray) -> FloatArray:
    """Return backscatter averaged over 3 x 3 px in linear power, over what was measured."""
    there = np.isfinite(values_db)
    power = np.where(there, 10 ** (np.where(there, values_db, 0) / 10), 0)
    total, number = (uniform_filter(each.astype(np.float64), (1, 3, 3)) for each in (power, there))
    mean = np.where(there, total, 1) / np.where(there, number, 1)
    return np.where(there, 10 * np.log10(np.maximum(mean, 1e-12)), np.nan).astype(np.float32)


def _phase(values: FloatArray, settings: PhaseChanges, random: np.random.Generator) -> FloatArray:
    """Return phase with another reference, order, orbit, atmosphere and noise, wrapped; bands share all but noise."""
    rows, cols = values.shape[-2:]
    sign = -1 if settings.sign and random.random() < 0.5 else 1
    added = random.uniform(-math.pi, math.pi) if settings.reference else 0.0
    slopes = random.normal(0, 2 * math.pi * settings.ramp_fringes, 2)
    plane = slopes[0] * np.linspace(-0.5, 0.5, rows)[:, None] + slopes[1] * np.linspace(-0.5, 0.5, cols)
    delay = random.uniform(0, settings.atmosphere_rad)
    if delay > 0:
        drawn = NumpyRandom(int(random.integers(2**31)))
        plane = plane + delay * np.asarray(power_law_field(drawn, (rows, cols), ATMOSPHERE_EXPONENT))
    noise = random.normal(0, random.uniform(0, settings.noise_rad), values.shape)
    return wrap(np.asarray(sign * values + added + plane + noise, np.float32))


def _reflectance(values: FloatArray, settings: ReflectanceChanges, random: np.random.Generator) -> FloatArray:
    """Return reflectance under another sun and another air."""
    gain, haze = math.exp(random.normal(0, settings.gain)), random.normal(0, settings.haze)
    return np.asarray(values * gain + haze, np.float32)
