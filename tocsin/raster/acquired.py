"""When a scene was acquired, from its tags or from file names of known producers; never invented."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

# Tags that say "acquisition" by their name; first found wins. Lower case here, compared case-insensitively.
START_TAGS = (
    "acquisition_start",
    "acquisition_start_time",
    "acquisition_datetime",
    "acquisition_date",
    "acquisition_time",
    "acquisitiondatetime",
    "zero_doppler_start_time",
    "start_datetime",
    "datetime",
)
END_TAGS = ("acquisition_end", "acquisition_end_time", "zero_doppler_end_time", "end_datetime")
# The TIFF standard means the file's creation by it, and some producers the acquisition: last, and named as source.
TIFF_TAG = "tifftag_datetime"

_STAMP = r"(\d{8}T\d{6})"
NAMES = (
    # OPERA L2 RTC-S1: OPERA_L2_RTC-S1_{burst}_{acquisition}Z_{processing}Z_{sensor}_30_v1.0
    ("OPERA name", re.compile(rf"OPERA_L2_RTC-S1_T\d{{3}}-\d{{6}}-IW\d_{_STAMP}Z_")),
    # Sentinel-1 SAFE: S1A_IW_GRDH_1SDV_{start}_{end}_{orbit}_...
    (
        "Sentinel-1 name",
        re.compile(rf"S1[A-D]_(?:IW|EW|S[1-6]|WV)_[A-Z]{{3}}[A-Z_]_\d[AS][A-Z]{{2}}_{_STAMP}_{_STAMP}_"),
    ),
    # Sentinel-1 measurement files: s1a-iw-grd-vv-{start}-{end}-{orbit}-...
    (
        "Sentinel-1 name",
        re.compile(rf"s1[a-d]-(?:iw|ew|s[1-6])\d?-[a-z]{{3}}-[hv]{{2}}-{_STAMP}-{_STAMP}-", re.IGNORECASE),
    ),
    # HyP3 RTC: S1A_IW_{start}_DVP_RTC30_G_gpuned_1A2B
    ("HyP3 name", re.compile(rf"S1[A-D]_(?:IW|EW|S[1-6])_{_STAMP}_[SD][HV][PROR]_RTC\d\d_")),
)


@dataclass(frozen=True)
class Acquired:
    """Time of one acquisition.

    Parameters
    ----------
    start
        UTC; start of the pass over the scene.
    end
        UTC; None when only one time is known.
    source
        Where the time came from: a tag's name, or which producer's file name.
    """

    start: datetime
    end: datetime | None
    source: str


def acquired(href: str, tags: Mapping[str, str]) -> Acquired | None:
    """Return when a scene was acquired, None when neither its tags nor its name say so.

    Tags whose name says acquisition win over known file names (OPERA RTC-S1, Sentinel-1 SAFE, HyP3 RTC), those over
    ``TIFFTAG_DATETIME``. A time without a zone is UTC, as in all Sentinel products.

    Parameters
    ----------
    href
        Path of the file or folder; its own name, then its parents' names, are searched.
    tags
        Dataset tags.
    """
    lower = {key.lower(): value for key, value in tags.items()}
    for tag in START_TAGS:
        start = parse_time(lower.get(tag, ""))
        if start is not None:
            end = next((end for end in (parse_time(lower.get(name, "")) for name in END_TAGS) if end), None)
            if end is None and re.fullmatch(r"\d{4}-?\d\d-?\d\d", lower[tag].strip()):
                end = start + timedelta(days=1, seconds=-1)  # a date alone says no more than the day
            return Acquired(start, _after(start, end), tag)
    named = _from_name(href)
    if named is not None:
        return named
    start = parse_time(lower.get(TIFF_TAG, ""))
    return None if start is None else Acquired(start, None, TIFF_TAG)


def parse_time(text: str) -> datetime | None:
    """Return a UTC time from ISO 8601, ``YYYYMMDDThhmmss`` or TIFF's ``YYYY:MM:DD hh:mm:ss``, None from the rest."""
    text = text.strip()
    if re.fullmatch(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", text):
        text = text.replace(":", "-", 2)
    # xarray writes nanoseconds; datetime takes six digits at most.
    text = re.sub(r"(\.\d{6})\d+", r"\1", text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _from_name(href: str) -> Acquired | None:
    # The file's own name first: a folder may be named after a whole campaign.
    path = PurePath(href)
    for part in (path.name, *(parent.name for parent in list(path.parents)[:3])):
        for source, pattern in NAMES:
            found = pattern.search(part)
            start = parse_time(found.group(1)) if found else None
            if found and start:
                end = parse_time(found.group(2)) if pattern.groups > 1 else None
                return Acquired(start, _after(start, end), source)
    return None


def _after(start: datetime, end: datetime | None) -> datetime | None:
    return end if end is not None and end >= start else None
