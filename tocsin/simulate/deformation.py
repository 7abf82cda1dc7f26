"""Sources of volcanic deformation, and what a radar sees of them.

Each source gives the displacement of a flat surface in an elastic half-space (Poisson's ratio 0.25), linear in its
strength. Coordinates are metres east and north in a local plane, arrays of any one shape, computed in float64.

Sign of the line of sight, stated here once: displacement is positive TOWARDS the satellite; phase grows with range, as
in LiCSAR products, so that uplift gives negative phase: phase = -4 pi / wavelength * displacement.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, Self

import array_api_compat

from tocsin.phase import RAD_PER_METRE
from tocsin.simulate.fields import Array
from tocsin.simulate.okada import POISSON, Fault, Slip, point_dislocation, rectangular_dislocation


class Displacement(NamedTuple):
    """Displacement of the surface towards east, north and up, m."""

    east: Array
    north: Array
    up: Array


class DeformationSource(Protocol):
    """Anything that moves the surface, by an amount proportional to its strength."""

    @property
    def strength(self) -> float:
        """Volume change, m3, or opening or slip, m."""

    def scaled(self, factor: float) -> Self:
        """Return the same source with its strength multiplied."""

    def displacement(self, east: Array, north: Array) -> Displacement:
        """Return the displacement at points of the surface, m."""


@dataclass(frozen=True)
class Mogi:
    """A small sphere that changes its volume.

    Attributes
    ----------
    east_m, north_m, depth_m
        Place of the centre, m.
    volume_m3
        Volume change, m3; positive inflates.
    """

    east_m: float
    north_m: float
    depth_m: float
    volume_m3: float

    @property
    def strength(self) -> float:
        """Volume change, m3."""
        return self.volume_m3

    def scaled(self, factor: float) -> Self:
        """Return the source with its volume change multiplied."""
        return replace(self, volume_m3=self.volume_m3 * factor)

    def displacement(self, east: Array, north: Array) -> Displacement:
        """Return (1 - nu) dV / pi * (x, y, d) / R**3: Mogi (1958), in the form of Segall (2010), equation 7.14."""
        x, y = _relative(east, self.east_m), _relative(north, self.north_m)
        cube = (x**2 + y**2 + self.depth_m**2) ** 1.5
        factor = (1 - POISSON) * self.volume_m3 / math.pi / cube
        return Displacement(factor * x, factor * y, factor * self.depth_m)


@dataclass(frozen=True)
class Rectangle:
    """A rectangular dislocation: a dyke or a sill that opens, or a fault that slips.

    Attributes
    ----------
    east_m, north_m, depth_m
        Place of the centre, m.
    strike_deg
        Azimuth clockwise from north; the rectangle dips to the right of it.
    dip_deg
        Dip from the horizontal, 0 to 90.
    length_m, width_m
        Along strike and down-dip, m.
    opening_m, slip_m
        Opening, and slip in the plane, m.
    rake_deg
        Direction of slip: 0 left-lateral, 90 thrust.
    """

    east_m: float
    north_m: float
    depth_m: float
    strike_deg: float
    dip_deg: float
    length_m: float
    width_m: float
    opening_m: float = 0.0
    slip_m: float = 0.0
    rake_deg: float = 0.0

    @property
    def strength(self) -> float:
        """Opening or slip, whichever is larger, m."""
        return max(self.opening_m, self.slip_m, key=abs)

    def scaled(self, factor: float) -> Self:
        """Return the source with opening and slip multiplied."""
        return replace(self, opening_m=self.opening_m * factor, slip_m=self.slip_m * factor)

    def displacement(self, east: Array, north: Array) -> Displacement:
        """Return the displacement after Okada (1985), equations 24 to 30."""
        dip, rake = math.radians(self.dip_deg), math.radians(self.rake_deg)
        slip = Slip(self.slip_m * math.cos(rake), self.slip_m * math.sin(rake), self.opening_m)
        fault = Fault(self.depth_m + self.width_m / 2 * math.sin(dip), dip, self.length_m, self.width_m)
        along, left = _to_strike(_relative(east, self.east_m), _relative(north, self.north_m), self.strike_deg)
        moved = rectangular_dislocation(along + self.length_m / 2, left + self.width_m / 2 * math.cos(dip), fault, slip)
        return _from_strike(moved, self.strike_deg)


@dataclass(frozen=True)
class PennyCrack:
    """A horizontal penny-shaped crack whose opening is elliptical, as under uniform pressure: Sun (1969).

    The crack opens as in an unbounded body, and the surface answers exactly: a good approximation while the depth is
    more than about twice the radius (Fialko et al., 2001, solve the shallow case).

    Attributes
    ----------
    east_m, north_m, depth_m
        Place of the centre, m.
    radius_m
        Radius, m.
    volume_m3
        Volume change, m3: 2/3 pi radius**2 times the opening at the centre.
    """

    east_m: float
    north_m: float
    depth_m: float
    radius_m: float
    volume_m3: float

    @property
    def strength(self) -> float:
        """Volume change, m3."""
        return self.volume_m3

    @property
    def opening_m(self) -> float:
        """Opening at the centre, m; 4 (1 - nu) / pi * pressure / shear modulus * radius."""
        return self.volume_m3 / (2 / 3 * math.pi * self.radius_m**2)

    def scaled(self, factor: float) -> Self:
        """Return the source with its volume change multiplied."""
        return replace(self, volume_m3=self.volume_m3 * factor)

    def displacement(self, east: Array, north: Array) -> Displacement:
        """Return the displacement, m.

        The Hankel transform of the elliptical opening, a**2 (sin ka - ka cos ka) / (ka)**3, times the answer of the
        surface to a horizontal opening, (1 + kh) exp(-kh) upwards and kh exp(-kh) outwards (the transform of Okada
        1985, equation 10, at dip 0), has a closed inverse in s = sqrt(r**2 + (h - i a)**2): upwards
        -(w / a) [Im s + a h Re(1 / s)], outwards (w h r / a) [Im(1 / (s + z)) - a Re(1 / (s (s + z)))], z = h - i a.
        """
        x, y = _relative(east, self.east_m), _relative(north, self.north_m)
        xp = array_api_compat.array_namespace(x)
        h, a = self.depth_m, self.radius_m
        real_square = x**2 + y**2 + h**2 - a**2
        size = xp.sqrt(real_square**2 + (2 * a * h) ** 2)
        # The larger of the two parts from the sum, the other from their product, so that neither cancels.
        larger = xp.sqrt((size + xp.abs(real_square)) / 2)
        real = xp.where(real_square > 0, larger, a * h / larger)
        imag = -a * h / real
        sum_real, sum_imag = real + h, imag - a
        sum_square = sum_real**2 + sum_imag**2
        product_real = real * sum_real - imag * sum_imag
        outwards = -sum_imag / sum_square - a * product_real / (size * sum_square)
        outwards = outwards * self.opening_m * h / a
        up = -self.opening_m / a * (imag + a * h * real / size)
        return Displacement(outwards * x, outwards * y, up)


@dataclass(frozen=True)
class Spheroid:
    """A prolate spheroidal cavity under pressure, small beside its depth.

    The far field of a pressurised spheroid (Davis, 1986, JGR 91(B7)) as a point compound dislocation (Nikkhoo et al.,
    2017, GJI 208(2)): a sphere, less a tensile dislocation across the long axis.

    Attributes
    ----------
    east_m, north_m, depth_m
        Place of the centre, m.
    aspect
        Long axis over short axes, above 1.
    trend_deg, plunge_deg
        Azimuth clockwise from north towards which the long axis plunges, and its angle below the horizontal.
    volume_m3
        Change of the cavity's volume, m3.
    """

    east_m: float
    north_m: float
    depth_m: float
    aspect: float
    trend_deg: float
    plunge_deg: float
    volume_m3: float

    @property
    def strength(self) -> float:
        """Volume change, m3."""
        return self.volume_m3

    def scaled(self, factor: float) -> Self:
        """Return the source with its volume change multiplied."""
        return replace(self, volume_m3=self.volume_m3 * factor)

    def displacement(self, east: Array, north: Array) -> Displacement:
        """Return the displacement, m."""
        short, long = spheroid_potencies(self.aspect)
        # Three equal tensile dislocations are a Mogi source whose volume change is 5/3 of each (lambda = mu).
        sphere_m3 = self.volume_m3 * short * (1 + POISSON) / (1 - POISSON)
        sphere = Mogi(self.east_m, self.north_m, self.depth_m, sphere_m3).displacement(east, north)
        # The plane across an axis that plunges towards the trend dips the other way, by the complement of the plunge.
        strike_deg = self.trend_deg + 90
        x, y = _relative(east, self.east_m), _relative(north, self.north_m)
        along, left = _to_strike(x, y, strike_deg)
        fault = Fault(self.depth_m, math.radians(90 - self.plunge_deg))
        moved = point_dislocation(along, left, fault, Slip(tensile=self.volume_m3 * (long - short)))
        axis = _from_strike(moved, strike_deg)
        return Displacement(sphere.east + axis.east, sphere.north + axis.north, sphere.up + axis.up)


def spheroid_potencies(aspect: float) -> tuple[float, float]:
    """Return the potencies of a pressurised prolate cavity across a short axis and across the long one.

    Eigenstrain e of an inclusion equal to the cavity under uniform pressure: (I - S) e is isotropic, with S Eshelby's
    tensor (Mura, 1987, Micromechanics of Defects in Solids, equations 11.16, 11.17 and 11.28). Both are per volume
    change of the cavity, which is the volume times the trace of S e.

    Parameters
    ----------
    aspect
        Long axis over short axes, above 1.
    """
    root = math.sqrt(aspect**2 - 1)
    i_short = 2 * math.pi * aspect / root**3 * (aspect * root - math.acosh(aspect))
    i_long = 4 * math.pi - 2 * i_short
    mixed = (i_short - i_long) / root**2
    short_short = math.pi - mixed / 4
    long_long = (4 * math.pi / aspect**2 - 2 * mixed) / 3
    scale = 8 * math.pi * (1 - POISSON)
    plane, own = (1 - 2 * POISSON) / scale, 3 / scale
    # S acting on (e_short, e_short, e_long); short axes have length 1.
    short_on_short = (own + 1 / scale) * short_short
    long_on_short = aspect**2 * mixed / scale - plane * i_short
    short_on_long = 2 * (mixed / scale - plane * i_long)
    long_on_long = own * aspect**2 * long_long + plane * i_long
    determinant = (1 - short_on_short) * (1 - long_on_long) - long_on_short * short_on_long
    e_short = (1 - long_on_long + long_on_short) / determinant
    e_long = (1 - short_on_short + short_on_long) / determinant
    opened = 2 * (short_on_short * e_short + long_on_short * e_long) + short_on_long * e_short + long_on_long * e_long
    return e_short / opened, e_long / opened


@dataclass(frozen=True)
class LookGeometry:
    """How a right-looking radar sees the scene; one direction for all of it.

    Attributes
    ----------
    orbit_pass
        Flight direction.
    heading_deg
        Azimuth of flight, clockwise from north.
    incidence_deg
        Angle between the line of sight and the vertical.
    """

    orbit_pass: Literal["ascending", "descending"]
    heading_deg: float
    incidence_deg: float

    @property
    def towards_satellite(self) -> tuple[float, float, float]:
        """Unit vector from the ground to the satellite, east, north, up (Hanssen 2001, equation 5.1.1)."""
        heading, incidence = math.radians(self.heading_deg), math.radians(self.incidence_deg)
        flat = math.sin(incidence)
        return -math.cos(heading) * flat, math.sin(heading) * flat, math.cos(incidence)


def line_of_sight(displacement: Displacement, look: LookGeometry) -> Array:
    """Return the displacement towards the satellite, m."""
    east, north, up = look.towards_satellite
    return displacement.east * east + displacement.north * north + displacement.up * up


def los_phase(towards_satellite_m: Array) -> Array:
    """Return the interferometric phase of a displacement towards the satellite, rad: -4 pi / wavelength * m."""
    return towards_satellite_m * -RAD_PER_METRE


def _relative(coordinate: Array, origin: float) -> Array:
    """Return a coordinate from an origin, float64: float32 leaves too few digits for Okada's differences."""
    xp = array_api_compat.array_namespace(coordinate)
    return xp.astype(coordinate, xp.float64) - origin


def _to_strike(east: Array, north: Array, strike_deg: float) -> tuple[Array, Array]:
    """Turn east and north into along strike and left of it, which is Okada's frame."""
    sin, cos = math.sin(math.radians(strike_deg)), math.cos(math.radians(strike_deg))
    return east * sin + north * cos, north * sin - east * cos


def _from_strike(moved: tuple[Array, Array, Array], strike_deg: float) -> Displacement:
    """Turn a displacement along strike, left of it and up into east, north and up."""
    sin, cos = math.sin(math.radians(strike_deg)), math.cos(math.radians(strike_deg))
    along, left, up = moved
    return Displacement(along * sin - left * cos, along * cos + left * sin, up)
