"""Is it backscatter in the unit that was stated? Judged from a bounded sample, before any scoring.

Over land and water C-band backscatter has medians around -10 dB (VV) and -16 dB (VH), which is 0.02 to 0.1 in linear
power; only bright cities pass 0 dB (1 in power). So nearly all true dB values are negative, no power is, and digital
numbers of an uncalibrated product are in the hundreds.
"""

import re
from typing import Literal

import numpy as np

from tocsin.errors import WrongUnitsError
from tocsin.raster.source import BandArray

Units = Literal["db", "linear"]

# Fewer values than these say nothing about a unit.
MIN_SAMPLE = 100
# At least this share of dB values is negative, and at most this share of linear ones (noise subtraction leaves some).
NEGATIVE_SHARE = 0.05
# A median above it is no linear power (10 = +10 dB) but a digital number.
MAX_MEDIAN_POWER = 10.0
# No radar measures outside: what lies there is a fill value that the file does not declare, hence invalid.
DB_RANGE = (-100.0, 100.0)

# HyP3 RTC names: ..._DVP_RTC30_G_gpuned_1A2B: second letter of the group is power, decibel or amplitude.
HYP3 = re.compile(r"_RTC\d\d_[A-Z]_[gs]([pda])[um][nf][ec][dm]_", re.IGNORECASE)
OPERA = re.compile(r"OPERA_L2_RTC-S1_")


def check_name(name: str, units: Units) -> None:
    """Refuse units that the naming rule of a known producer contradicts.

    Parameters
    ----------
    name
        File or folder name.
    units
        What the user stated.

    Raises
    ------
    WrongUnitsError
        OPERA RTC-S1 (always linear power) or HyP3 power given as dB, HyP3 decibel given as linear, HyP3 amplitude.
    """
    found = HYP3.search(name)
    scale = "p" if OPERA.search(name) else found.group(1).lower() if found else ""
    if scale == "a":
        raise WrongUnitsError(
            f"{name}, a HyP3 product in amplitude", "power or decibel", "order it in power or square it"
        )
    if scale == "p" and units == "db":
        raise _linear_as_db(f"{name}, linear power by its name")
    if scale == "d" and units == "linear":
        raise _db_as_linear(f"{name}, decibels by its name")


def check_values(name: str, values: BandArray, units: Units) -> bool:
    """Refuse values that cannot be backscatter in the stated units.

    Parameters
    ----------
    name
        What to call the band in a message.
    values
        float32, any shape, as stored; NaN where invalid.
    units
        What the user stated.

    Returns
    -------
    bool
        Whether there were enough valid values to judge.

    Raises
    ------
    WrongUnitsError
        Linear power or digital numbers given as dB, dB or digital numbers given as linear power.
    """
    # Below the range lies an undeclared fill value such as -9999, in either unit: reading makes it NaN.
    valid = values[np.isfinite(values)]
    valid = valid[valid >= DB_RANGE[0]]
    if valid.size < MIN_SAMPLE:
        return False
    negative, median = float(np.mean(valid < 0)), float(np.median(valid))
    facts = f"{name} with median {median:.4g} and {negative:.0%} negative values"
    if negative < NEGATIVE_SHARE and median > MAX_MEDIAN_POWER:
        raise WrongUnitsError(
            f"{facts}: uncalibrated amplitude or digital numbers",
            "calibrated, terrain-corrected backscatter (gamma0 or sigma0) in dB or linear power",
            "calibrate the scene (SNAP, HyP3, OPERA RTC), then pass it with --units db or --units linear",
        )
    if units == "db" and negative < NEGATIVE_SHARE:
        raise _linear_as_db(facts)
    if units == "linear" and negative > NEGATIVE_SHARE:
        raise _db_as_linear(facts)
    return True


def to_db(values: BandArray, units: Units) -> BandArray:
    """Return backscatter in dB, NaN where the value is no measurement.

    Parameters
    ----------
    values
        float32, any shape, in the stated units, NaN where invalid.
    units
        Unit of ``values``.

    Returns
    -------
    ndarray
        float32, same shape, dB; NaN for power that is not positive and for dB outside +-100, which no radar measures.
    """
    if units == "linear":
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(10 * np.log10(values), dtype=np.float32)
    with np.errstate(invalid="ignore"):
        inside = (values >= DB_RANGE[0]) & (values <= DB_RANGE[1])
    return values if inside.all() else np.where(inside, values, np.float32(np.nan))


def _linear_as_db(given: str) -> WrongUnitsError:
    return WrongUnitsError(
        f"{given}: linear power given as dB",
        "backscatter in dB, of which nearly all is negative",
        "pass --units linear (units='linear')",
    )


def _db_as_linear(given: str) -> WrongUnitsError:
    return WrongUnitsError(
        f"{given}: dB given as linear power",
        "linear power, which is never negative",
        "pass --units db (units='db'), the default",
    )
