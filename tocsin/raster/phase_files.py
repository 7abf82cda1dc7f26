"""What an interferogram's name, tags and values say: kind of phase, days, whether 0 is missing, and the unit.

Known producers: LiCSAR (``DAY_DAY.geo.diff_pha.tif``, ``.geo.unw.tif``), HyP3 (``*_wrapped_phase.tif``,
``*_unw_phase.tif``, ``*_los_disp.tif``), PyRate and GAMMA (``*_unw.tif``, tags FIRST_DATE and SECOND_DATE).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Final, Literal

import numpy as np

from tocsin.errors import WrongDatesError, WrongUnitsError
from tocsin.raster.acquired import acquired, parse_time
from tocsin.raster.source import BandArray

PhaseKind = Literal["wrapped", "unwrapped"]
PhaseUnits = Literal["rad", "m"]

FRAME: Final = re.compile(r"\d{3}[AD]_\d{5}_\d{6}")
"""Name of a LiCSAR frame: track and direction, colatitude index, bursts."""
PAIR: Final = re.compile(r"\d{8}_\d{8}$")
"""Days of a LiCSAR interferogram, at the end of what its name starts with."""
SUFFIX: Final = {"wrapped": ".geo.diff_pha.tif", "unwrapped": ".geo.unw.tif", "coherence": ".geo.cc.tif"}
"""How LiCSAR ends the names of its rasters."""
PHASE_SLACK: Final = 1e-3
"""Rounding of phase that was stored in float32 by others, rad."""

LICSAR: Final = re.compile(r"\.geo\.(?:diff_pha|diff_unfiltered_pha|unw|cc)\.tiff?$", re.IGNORECASE)
UNWRAPPED: Final = re.compile(r"(?<![a-z])unw(?:rapped)?(?![a-z])", re.IGNORECASE)
WRAPPED: Final = re.compile(r"(?<![a-z])(?:wrapped|diff(?:_unfiltered)?_pha)(?![a-z])", re.IGNORECASE)
METRES: Final = re.compile(r"_(?:los|vert)_disp(?![a-z])", re.IGNORECASE)

# A quiet interferogram's noise alone passes it: of the real ones seen, the 99th percentile of |phase| is above 2 rad.
# Motion in metres stays below it: of 451 increments of two volcanoes, one rift eruption among them, it is 0.10 m.
SMALLEST_PHASE_RAD: Final = 0.5
# No interferogram was unwrapped over more: 20 m along the line of sight.
LARGEST_MOTION_M: Final = 20.0
LARGEST_UNWRAPPED_RAD: Final = 4500.0
# Fewer values than these say nothing about a unit.
MIN_SAMPLE: Final = 100

_STAMP = r"(\d{8}T\d{6})"
PAIRS: Final = (
    # HyP3: S1AA_{reference}_{secondary}_VVP012_INT80_...
    re.compile(rf"(?<![0-9A-Za-z]){_STAMP}[_-]{_STAMP}(?![0-9A-Za-z])"),
    # LiCSAR, HyP3 bursts and PyRate: DAY_DAY, DAY-DAY
    re.compile(r"(?<!\d)(\d{8})[_-](\d{8})(?!\d)"),
)
LONGEST_PASS: Final = timedelta(hours=1)
PAIR_TAGS: Final = (("first_date", "first_time", "second_date", "second_time"),)


@dataclass(frozen=True, slots=True)
class AcquiredPair:
    """When the two acquisitions of an interferogram were made.

    Attributes
    ----------
    reference, secondary
        UTC; the earlier and the later one. None where unknown.
    day_only
        Whether only days are known: 00:00 UTC stands for each.
    """

    reference: datetime | None
    secondary: datetime | None
    day_only: bool


def kind_of(name: str, descriptions: Iterable[str] = ()) -> PhaseKind | None:
    """Return the kind of phase that a file's name or band description tells, None when neither does."""
    for text in (name, *descriptions):
        if UNWRAPPED.search(text):
            return "unwrapped"
        if WRAPPED.search(text):
            return "wrapped"
    return None


def zero_is_missing(name: str) -> bool:
    """Whether a stored 0 is no phase: LiCSAR writes it where nothing was measured, declared or not."""
    return LICSAR.search(name) is not None


def acquired_pair(href: str, tags: Mapping[str, str]) -> AcquiredPair:
    """Return when both acquisitions were made, from tags, the file's name or that of its folder; never invented.

    Raises
    ------
    WrongDatesError
        The first day of a pair is not before the second.
    """
    lower = {key.lower(): value.strip() for key, value in tags.items()}
    for first, first_time, second, second_time in PAIR_TAGS:
        days = lower.get(first, ""), lower.get(second, "")
        times = lower.get(first_time, ""), lower.get(second_time, "")
        found = [parse_time(f"{day}T{time}" if time else day) for day, time in zip(days, times, strict=True)]
        if found[0] is not None and found[1] is not None:
            return _in_order(found[0], found[1], href, day_only=not all(times))
    path = PurePath(href)
    for part in (path.name, path.parent.name):
        for pattern in PAIRS:
            stamps = pattern.search(part)
            found = [_stamp(text) for text in stamps.groups()] if stamps else [None, None]
            # Start and end of one pass are no pair.
            if found[0] is not None and found[1] is not None and abs(found[1] - found[0]) > LONGEST_PASS:
                return _in_order(found[0], found[1], href, day_only="T" not in (stamps or [""])[0])
    single = acquired(href, {key: value for key, value in tags.items() if key.lower() != "tifftag_datetime"})
    return AcquiredPair(None, single.start if single else None, day_only=False)


def _stamp(text: str) -> datetime | None:
    """Return the time of digits that are one of the satellite era."""
    time = parse_time(text)
    return time if time is not None and time >= datetime(1978, 1, 1, tzinfo=UTC) else None


def _in_order(first: datetime, second: datetime, href: str, *, day_only: bool) -> AcquiredPair:
    if first >= second:
        raise WrongDatesError(
            f"{href}, an interferogram of {first.date()} and {second.date()}",
            "the earlier acquisition first",
            "mend the file's name or tags; a pair in reverse has the opposite sign",
        )
    return AcquiredPair(first, second, day_only)


def check_name(name: str, units: PhaseUnits) -> None:
    """Refuse metres, by the naming rule of HyP3, that are given as phase.

    Raises
    ------
    WrongUnitsError
        A file of displacement without ``units='m'``.
    """
    if units == "rad" and METRES.search(name):
        raise _metres(f"{name}, displacement by its name")


def check_phase(name: str, values: BandArray, kind: PhaseKind, units: PhaseUnits, *, by_size: bool = True) -> bool:
    """Refuse values that cannot be what was stated.

    Metres given as phase are told by their size: when 99 % of a sample of at least 100 different values lie within
    0.5 of 0, they are no phase, whose noise alone is larger. One and the same value everywhere is let pass.

    Parameters
    ----------
    name
        What to call the file in a message.
    values
        float32, any shape, as stored; NaN where invalid.
    kind, units
        What was stated or found.
    by_size
        Tell metres from phase too; else only wrapped phase beyond +-pi is refused.

    Returns
    -------
    bool
        Whether there were enough valid values to judge.

    Raises
    ------
    WrongUnitsError
        Wrapped phase beyond +-pi, metres given as phase, or phase given as metres.
    """
    valid = values[np.isfinite(values)]
    low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 0.0)
    _check_reach(f"{name} with values from {low:.4g} to {high:.4g}", max(-low, high), kind, units)
    if valid.size < MIN_SAMPLE or not by_size:
        return False
    size = float(np.percentile(np.abs(valid), 99))
    if units == "rad" and size < SMALLEST_PHASE_RAD and low < high:
        raise _metres(f"{name} with 99 % of its values within +-{size:.2g}")
    return True


def _check_reach(given: str, reach: float, kind: PhaseKind, units: PhaseUnits) -> None:
    """Refuse what no phase and no motion reaches."""
    fill = "declare a fill value as nodata (gdal_edit -a_nodata)"
    if units == "m" and reach > LARGEST_MOTION_M:
        expected, todo = (
            f"motion in m, at most {LARGEST_MOTION_M:g}",
            "pass --units rad if it is phase; convert mm to m",
        )
    elif units == "rad" and kind == "unwrapped" and reach > LARGEST_UNWRAPPED_RAD:
        expected, todo = f"unwrapped phase in rad, at most {LARGEST_UNWRAPPED_RAD:g}", "check its unit"
    elif units == "rad" and kind == "wrapped" and reach > np.pi + PHASE_SLACK:
        expected, todo = "wrapped phase in rad, -pi to pi", "pass --unwrapped if it is unwrapped phase"
    else:
        return
    raise WrongUnitsError(
        f"{given} as {kind} phase" if units == "rad" else f"{given} as m", expected, f"{todo}; {fill}"
    )


def _metres(given: str) -> WrongUnitsError:
    return WrongUnitsError(
        f"{given}: metres given as phase",
        "phase in rad, whose noise alone is larger",
        "pass --unwrapped --units m for motion toward the satellite in metres (LiCSBAS, LiCSAlert)",
    )


def coherence_scale(name: str, values: BandArray) -> float:
    """Return by what to divide coherence so that it is 0..1: 1, or 255 for the bytes of LiCSAR.

    Parameters
    ----------
    name
        What to call the file in a message.
    values
        float32, any shape, a sample as stored; NaN where invalid.

    Raises
    ------
    WrongUnitsError
        Values below 0 or above 255.
    """
    low, high = float(np.nanmin(values, initial=0)), float(np.nanmax(values, initial=0))
    if low < 0 or high > 255:
        raise WrongUnitsError(
            f"{name} with values from {low:.1f} to {high:.1f}",
            "coherence, 0..1 or 0..255",
            "pass the coherence of the same interferogram as its producer wrote it",
        )
    return 255.0 if high > 1 + PHASE_SLACK else 1.0
