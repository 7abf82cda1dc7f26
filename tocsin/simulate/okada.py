"""Surface displacement by dislocations in an elastic half-space (Okada, 1985, BSSA 75(4), 1135-1154).

Okada's frame: x along strike, y horizontal and up-dip, z up; the fault's lower edge starts below the origin, at depth
d. All lengths in one unit, angles in radians, displacement in the unit of the slip. Poisson's ratio is 0.25
(lambda = mu). Equation numbers are those of the paper.
"""

import math
from typing import Final, NamedTuple

import array_api_compat

from tocsin.simulate.fields import Array, Namespace

POISSON: Final = 0.25
"""Poisson's ratio of the half-space, for every source."""
MEDIUM: Final = 1 - 2 * POISSON
"""mu / (lambda + mu)."""
# Below this cosine a dip counts as vertical: closer to it, terms in 1 / cos**2 cancel with fewer digits left than that.
_VERTICAL_COS: Final = 1e-5
_TINY: Final = 1e-300

Vector = tuple[Array, Array, Array]


class Slip(NamedTuple):
    """Dislocation in the fault's own directions, in the unit of the displacement wanted.

    Attributes
    ----------
    strike
        Strike-slip, left-lateral positive (U1).
    dip
        Dip-slip, thrust positive (U2).
    tensile
        Opening (U3).
    """

    strike: float = 0.0
    dip: float = 0.0
    tensile: float = 0.0


class Fault(NamedTuple):
    """A rectangle in Okada's frame.

    Attributes
    ----------
    depth
        Depth of the lower edge, or of a point source.
    dip_rad
        Dip from the horizontal.
    length, width
        Along strike and up-dip; not used by a point source.
    """

    depth: float
    dip_rad: float
    length: float = 0.0
    width: float = 0.0


class _Dip(NamedTuple):
    """Sine and cosine of the dip; the cosine of a vertical fault is exactly 0."""

    sin: float
    cos: float


def point_dislocation(x: Array, y: Array, fault: Fault, slip: Slip) -> Vector:
    """Return the displacement by a point dislocation below the origin: equations 8 to 11.

    Parameters
    ----------
    x, y
        Coordinates of the same shape, float64.
    fault
        Depth and dip of the source.
    slip
        Slip times area (potency), in length cubed.

    Returns
    -------
    tuple
        Displacement along x, y and up.
    """
    xp = array_api_compat.array_namespace(x)
    dip, d = _dip(fault.dip_rad), fault.depth
    p, q = y * dip.cos + d * dip.sin, y * dip.sin - d * dip.cos
    r = xp.sqrt(x**2 + y**2 + d**2)
    rd = r + d
    i1 = MEDIUM * y * (1 / (r * rd**2) - x**2 * (3 * r + d) / (r**3 * rd**3))
    i2 = MEDIUM * x * (1 / (r * rd**2) - y**2 * (3 * r + d) / (r**3 * rd**3))
    i3 = MEDIUM * x / r**3 - i2
    i4 = -MEDIUM * x * y * (2 * r + d) / (r**3 * rd**2)
    i5 = MEDIUM * (1 / (r * rd) - x**2 * (2 * r + d) / (r**3 * rd**2))
    # The radial part of every component is 3 (x, y, d) times one scalar; the rest depends on the dip alone.
    radial = 3 * q * (-slip.strike * x - slip.dip * p + slip.tensile * q) / r**5
    across = slip.dip * dip.cos * dip.sin - slip.tensile * dip.sin**2
    along = slip.strike * dip.sin
    return (
        (radial * x + across * i3 - along * i1) / (2 * math.pi),
        (radial * y + across * i1 - along * i2) / (2 * math.pi),
        (radial * d + across * i5 - along * i4) / (2 * math.pi),
    )


def rectangular_dislocation(x: Array, y: Array, fault: Fault, slip: Slip) -> Vector:
    """Return the displacement by a rectangular dislocation: equations 24 to 30.

    Parameters
    ----------
    x, y
        Coordinates of the same shape, float64.
    fault
        Rectangle from x = 0 to ``length`` and from the lower edge to ``width`` up-dip; wholly below the surface.
    slip
        Uniform slip.

    Returns
    -------
    tuple
        Displacement along x, y and up.
    """
    dip = _dip(fault.dip_rad)
    p, q = y * dip.cos + fault.depth * dip.sin, y * dip.sin - fault.depth * dip.cos
    # Chinnery's notation, equation 24: f(x, p) - f(x, p - W) - f(x - L, p) + f(x - L, p - W).
    total: Vector = (0.0, 0.0, 0.0)
    for xi, sign_xi in ((x, 1.0), (x - fault.length, -1.0)):
        for eta, sign_eta in ((p, 1.0), (p - fault.width, -1.0)):
            ux, uy, uz = _corner(xi, eta, q, dip, slip)
            sign = sign_xi * sign_eta / (2 * math.pi)
            total = (total[0] + sign * ux, total[1] + sign * uy, total[2] + sign * uz)
    return total


class _Corner(NamedTuple):
    """What the three kinds of slip share at one corner; names as in the paper."""

    q: Array
    r: Array
    y: Array
    d: Array
    r_eta: Array
    r_xi: Array
    angle: Array
    xi: Array


def _corner(xi: Array, eta: Array, q: Array, dip: _Dip, slip: Slip) -> Vector:
    """Return 2 pi times the displacement that one corner contributes: equations 25 to 27."""
    xp = array_api_compat.array_namespace(xi)
    square = xi**2 + eta**2 + q**2
    r = xp.sqrt(xp.where(square < _TINY, xp.full_like(square, _TINY), square))
    y, d = eta * dip.cos + q * dip.sin, eta * dip.sin - q * dip.cos
    # xi * eta / (q * r) has no limit on the plane of the fault; the paper sets its arctangent to 0 there (p. 1148).
    flat = q == 0
    angle = xp.atan(xi * eta / (xp.where(flat, xp.ones_like(q), q) * r))
    r_eta, log_eta = _sum(eta, r, xi**2 + q**2, xp)
    r_xi, _ = _sum(xi, r, eta**2 + q**2, xp)
    corner = _Corner(q, r, y, d, r_eta, r_xi, xp.where(flat, xp.zeros_like(angle), angle), xi)
    i1, i2, i3, i4, i5 = _medium_terms(corner, eta, log_eta, dip)
    total: Vector = (0.0, 0.0, 0.0)
    if slip.strike:
        u1, u2, u3 = _strike_terms(corner, dip)
        total = _add(total, slip.strike, (u1 - i1 * dip.sin, u2 - i2 * dip.sin, u3 - i4 * dip.sin))
    across = dip.sin * dip.cos
    if slip.dip:
        u1, u2, u3 = _dip_terms(corner, dip)
        total = _add(total, slip.dip, (u1 + i3 * across, u2 + i1 * across, u3 + i5 * across))
    across = dip.sin**2
    if slip.tensile:
        u1, u2, u3 = _tensile_terms(corner, dip)
        total = _add(total, slip.tensile, (u1 - i3 * across, u2 - i1 * across, u3 - i5 * across))
    return total


def _strike_terms(c: _Corner, dip: _Dip) -> Vector:
    """Return the terms of equation 25 without the medium."""
    along = c.q * c.r_eta / c.r
    return -(c.xi * along + c.angle), -(c.y * along + c.q * dip.cos * c.r_eta), -(c.d * along + c.q * dip.sin * c.r_eta)


def _dip_terms(c: _Corner, dip: _Dip) -> Vector:
    """Return the terms of equation 26 without the medium."""
    across = c.q * c.r_xi / c.r
    return -c.q / c.r, -(c.y * across + dip.cos * c.angle), -(c.d * across + dip.sin * c.angle)


def _tensile_terms(c: _Corner, dip: _Dip) -> Vector:
    """Return the terms of equation 27 without the medium."""
    along, across = c.q * c.r_eta / c.r, c.q * c.r_xi / c.r
    turn = c.xi * along - c.angle
    return c.q * along, -c.d * across - dip.sin * turn, c.y * across + dip.cos * turn


def _medium_terms(c: _Corner, eta: Array, log_eta: Array, dip: _Dip) -> tuple[Array, Array, Array, Array, Array]:
    """Return I1 to I5: equations 28, and 29 for a vertical fault."""
    xp = array_api_compat.array_namespace(eta)
    rd = c.r + c.d
    if dip.cos == 0:
        i1 = -MEDIUM / 2 * c.xi * c.q / rd**2
        i3 = MEDIUM / 2 * (eta / rd + c.y * c.q / rd**2 - log_eta)
        i4 = -MEDIUM * c.q / rd
        i5 = -MEDIUM * c.xi * dip.sin / rd
        return i1, -MEDIUM * log_eta - i3, i3, i4, i5
    tan = dip.sin / dip.cos
    reach = xp.sqrt(c.xi**2 + c.q**2)
    # The arctangent of I5 is 0 where xi is 0 (p. 1148).
    middle = c.xi == 0
    below = xp.where(middle, xp.ones_like(c.xi), c.xi) * (c.r + reach) * dip.cos
    angle = xp.atan((eta * (reach + c.q * dip.cos) + reach * (c.r + reach) * dip.sin) / below)
    i5 = MEDIUM * 2 / dip.cos * xp.where(middle, xp.zeros_like(angle), angle)
    i4 = MEDIUM / dip.cos * (xp.log(rd) - dip.sin * log_eta)
    i3 = MEDIUM * (c.y / (dip.cos * rd) - log_eta) + tan * i4
    i1 = -MEDIUM / dip.cos * c.xi / rd - tan * i5
    return i1, -MEDIUM * log_eta - i3, i3, i4, i5


def _sum(part: Array, r: Array, rest: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return 1 / (r + part) and log(r + part), where r**2 = part**2 + rest.

    For negative ``part`` the sum is rest / (r - part), which does not cancel. Where it vanishes, the paper (p. 1148)
    sets the quotient to 0 and the logarithm to -log(r - part).
    """
    total = xp.where(part < 0, rest / (r + xp.abs(part)), r + part)
    none = total <= 0
    total = xp.where(none, xp.ones_like(total), total)
    opposite = xp.where(none, r - part, xp.ones_like(r))
    return xp.where(none, xp.zeros_like(r), 1 / total), xp.log(total) - xp.log(opposite)


def _add(total: Vector, slip: float, part: Vector) -> Vector:
    """Add a slip times its displacement."""
    return total[0] + slip * part[0], total[1] + slip * part[1], total[2] + slip * part[2]


def _dip(dip_rad: float) -> _Dip:
    """Return sine and cosine of a dip, snapped to vertical where the general formulas lose their digits."""
    if abs(math.cos(dip_rad)) < _VERTICAL_COS:
        return _Dip(math.copysign(1.0, math.sin(dip_rad)), 0.0)
    return _Dip(math.sin(dip_rad), math.cos(dip_rad))
