"""From which pass an acquisition was looked at: direction of flight, track and incidence, from tags, names and times.

Two acquisitions are compared pixel by pixel only when they look alike: another track or direction of flight turns every
slope toward or away from the radar, which changes backscatter more than most events do.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Final, Literal

from tocsin.raster import Backscatter

OrbitPass = Literal["ascending", "descending"]

ORBIT_TAGS: Final = ("orbit_pass_direction", "orbit_pass", "orbit_direction", "pass_direction", "flight_direction")
TRACK_TAGS: Final = ("relative_orbit", "relative_orbit_number", "track_number", "track", "path_number")
INCIDENCE_TAGS: Final = ("incidence_deg", "incidence_angle_deg", "incidence_angle_mid_swath", "incidence_angle")
MIN_INCIDENCE_DEG: Final = 15.0
MAX_INCIDENCE_DEG: Final = 60.0
TRACKS: Final = 175
"""Relative orbits of Sentinel-1, after which its ground track repeats."""
TRACK_NAME: Final = re.compile(r"OPERA_L2_RTC-S1_T(\d{3})-")
# Neighbouring tracks pass a place some four to nine minutes apart; along one track a scene's start moves by seconds.
SAME_TRACK_TIME: Final = timedelta(minutes=2)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the pass that made an acquisition.

    Attributes
    ----------
    orbit_pass : str or None
        Direction of flight; None when neither tag says it.
    track : int or None
        Relative orbit, 1 to 175; None when neither tag nor name says it.
    time : datetime.datetime or None
        UTC start; None when unknown, or when only the day is known.
    """

    orbit_pass: OrbitPass | None
    track: int | None
    time: datetime | None


def look_of(acquisition: Backscatter) -> Look:
    """Return what tags and names of an acquisition say about its pass."""
    when = acquisition.acquired
    whole_day = when is not None and when.end is not None and when.end - when.start >= DAY - timedelta(seconds=1)
    return Look(orbit_pass_of(acquisition), _track(acquisition), None if when is None or whole_day else when.start)


def same_look(one: Look, two: Look) -> bool | None:
    """Whether two acquisitions look alike: same direction of flight and same track.

    Where neither track nor direction is stated by both, their times of day decide: Sentinel-1 passes a place at the
    same time of day on one track, within seconds, and at another time on any other.

    Returns
    -------
    bool or None
        None when nothing tells.
    """
    if one.orbit_pass and two.orbit_pass and one.orbit_pass != two.orbit_pass:
        return False
    if one.track is not None and two.track is not None:
        return one.track == two.track
    if one.time is None or two.time is None:
        return None
    apart = (one.time - two.time) % DAY
    return min(apart, DAY - apart) <= SAME_TRACK_TIME


def differing(looks: Sequence[Look]) -> tuple[int, ...]:
    """Return the positions of acquisitions whose track or direction of flight differs from that of the first."""
    return tuple(index for index, look in enumerate(looks) if same_look(looks[0], look) is False)


def orbit_pass_of(acquisition: Backscatter) -> OrbitPass | None:
    """Return the direction of flight that tags state, None when they do not."""
    said = (_tag(acquisition, ORBIT_TAGS) or "").lower()
    if said in {"ascending", "a", "asc"}:
        return "ascending"
    return "descending" if said in {"descending", "d", "desc"} else None


def incidence_deg_of(acquisition: Backscatter) -> float | None:
    """Return the incidence at scene centre that tags state, degrees; None when they do not, or impossibly."""
    try:
        degrees = float(_tag(acquisition, INCIDENCE_TAGS) or "nan")
    except ValueError:
        return None
    return degrees if MIN_INCIDENCE_DEG <= degrees <= MAX_INCIDENCE_DEG else None


def _track(acquisition: Backscatter) -> int | None:
    said = _tag(acquisition, TRACK_TAGS) or ""
    if not said.isdecimal():
        path = PurePath(str(acquisition.files[0].path))
        found = TRACK_NAME.search(path.name) or TRACK_NAME.search(path.parent.name)
        said = found[1] if found else ""
    return int(said) if said and 1 <= int(said) <= TRACKS else None


def _tag(acquisition: Backscatter, names: tuple[str, ...]) -> str | None:
    for raster in acquisition.files:
        tags = {name.lower(): value for name, value in raster.tags.items()}
        for name in names:
            if name in tags:
                return tags[name].strip()
    return None
