"""Deformation sources against closed forms, printed tables and conservation laws."""

import math

import array_api_compat.torch as torch_xp
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import j0, j1

from tocsin.phase import WAVELENGTH_M
from tocsin.simulate.deformation import (
    LookGeometry,
    Mogi,
    PennyCrack,
    Rectangle,
    Spheroid,
    line_of_sight,
    los_phase,
    spheroid_potencies,
)
from tocsin.simulate.okada import Fault, Slip, point_dislocation, rectangular_dislocation

SLIPS = {"strike": Slip(strike=1.0), "dip": Slip(dip=1.0), "tensile": Slip(tensile=1.0)}
# Okada (1985), table 2: displacement along x, y, up for unit slip and lambda = mu; point (x, y), depth, dip.
TABLE = [
    # case, x, y, depth, dip_deg, kind, printed values
    (1, 2, 3, 4, 70, "strike", ("-9.447E-04", "-1.023E-03", "-7.420E-04")),
    (1, 2, 3, 4, 70, "dip", ("-1.172E-03", "-2.082E-03", "-2.532E-03")),
    (1, 2, 3, 4, 70, "tensile", ("-3.572E-04", "3.531E-04", "-2.007E-04")),
    (2, 2, 3, 4, 70, "strike", ("-8.689E-03", "-4.298E-03", "-2.747E-03")),
    (2, 2, 3, 4, 70, "dip", ("-4.682E-03", "-3.527E-02", "-3.564E-02")),
    (2, 2, 3, 4, 70, "tensile", ("-2.660E-04", "1.056E-02", "3.214E-03")),
    (3, 0, 0, 4, 90, "strike", ("0.000E+00", "5.253E-03", "0.000E+00")),
    (3, 0, 0, 4, 90, "dip", ("0.000E+00", "0.000E+00", "0.000E+00")),
    (3, 0, 0, 4, 90, "tensile", ("1.223E-02", "0.000E+00", "-1.606E-02")),
    (4, 0, 0, 4, -90, "strike", ("0.000E+00", "-1.303E-03", "0.000E+00")),
    (4, 0, 0, 4, -90, "dip", ("0.000E+00", "0.000E+00", "0.000E+00")),
    (4, 0, 0, 4, -90, "tensile", ("3.507E-03", "0.000E+00", "-7.740E-03")),
]
# Derivatives of case 2: dux/dx, dux/dy, duy/dx, duy/dy, duz/dx, duz/dy.
SLOPES = [
    ("strike", ("-1.220E-03", "2.470E-04", "-8.191E-03", "-5.814E-04", "-5.175E-03", "2.945E-04")),
    ("dip", ("-8.867E-03", "-1.519E-04", "4.057E-03", "-1.035E-02", "4.088E-03", "2.626E-03")),
    ("tensile", ("-5.655E-04", "1.993E-03", "-1.066E-03", "1.230E-02", "-3.730E-04", "1.040E-02")),
]
SOURCES = [
    Mogi(300.0, -200.0, 2500.0, 2e6),
    PennyCrack(300.0, -200.0, 2500.0, 900.0, 2e6),
    Spheroid(300.0, -200.0, 2500.0, 2.5, 40.0, 60.0, 2e6),
    Rectangle(300.0, -200.0, 2500.0, 35.0, 80.0, 4000.0, 2000.0, opening_m=0.5),
    Rectangle(300.0, -200.0, 2500.0, 35.0, 0.0, 3000.0, 2000.0, opening_m=0.5),
    Rectangle(300.0, -200.0, 2500.0, 35.0, 50.0, 4000.0, 2000.0, slip_m=0.5, rake_deg=60.0),
]


def one(value):
    """An array of one float64."""
    return np.array([float(value)])


def grid(reach_m, step_m):
    """East and north of a square grid."""
    axis = np.arange(-reach_m, reach_m + step_m / 2, step_m)
    return np.meshgrid(axis, axis)


def printed(value):
    """A number as the table prints it, without the sign of a zero."""
    text = f"{float(np.ravel(value)[0]):.3E}"
    return "0.000E+00" if abs(float(text)) < 1e-15 else text


@pytest.mark.parametrize(("case", "x", "y", "depth", "dip_deg", "kind", "expected"), TABLE)
def test_okada_table_to_every_printed_digit(case, x, y, depth, dip_deg, kind, expected):
    """Cases 1 (point) and 2 to 4 (rectangle of 3 by 2) of Okada's table 2 come out digit by digit."""
    fault = Fault(depth, math.radians(dip_deg), 3.0, 2.0)
    solution = point_dislocation if case == 1 else rectangular_dislocation
    assert tuple(map(printed, solution(one(x), one(y), fault, SLIPS[kind]))) == expected


@pytest.mark.parametrize(("kind", "expected"), SLOPES)
def test_okada_derivatives_to_every_printed_digit(kind, expected):
    """Differences of the displacement give the derivatives of case 2 as printed."""
    fault, step = Fault(4.0, math.radians(70), 3.0, 2.0), 1e-4

    def slope(dx, dy):
        ahead = rectangular_dislocation(one(2 + dx), one(3 + dy), fault, SLIPS[kind])
        behind = rectangular_dislocation(one(2 - dx), one(3 - dy), fault, SLIPS[kind])
        return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]

    found = [value for pair in zip(slope(step, 0), slope(0, step), strict=True) for value in pair]
    assert tuple(map(printed, found)) == expected


@pytest.mark.parametrize("kind", SLIPS)
def test_small_rectangle_is_a_point(kind):
    """A rectangle far smaller than its depth moves the surface as the point dislocation of the same potency."""
    x, y = grid(6.0, 1.5)
    size, dip = 0.01, math.radians(55)
    fault = Fault(4 + size / 2 * math.sin(dip), dip, size, size)
    slip = Slip(*(part / size**2 for part in SLIPS[kind]))
    moved = rectangular_dislocation(x + size / 2, y + size / 2 * math.cos(dip), fault, slip)
    for small, point in zip(moved, point_dislocation(x, y, Fault(4.0, dip), SLIPS[kind]), strict=True):
        np.testing.assert_allclose(small, point, atol=1e-7)


@pytest.mark.parametrize("kind", SLIPS)
def test_vertical_is_the_limit_of_steep(kind):
    """The formulas of a vertical fault continue those of a steep one."""
    x, y = grid(6.0, 1.3)
    steep = rectangular_dislocation(x, y, Fault(4.0, math.radians(90 - 2e-3), 3.0, 2.0), SLIPS[kind])
    vertical = rectangular_dislocation(x, y, Fault(4.0, math.pi / 2, 3.0, 2.0), SLIPS[kind])
    for near, limit in zip(steep, vertical, strict=True):
        np.testing.assert_allclose(near, limit, atol=1e-4)


@pytest.mark.parametrize("dip_deg", [0.0, 45.0, 90.0])
def test_displacement_is_finite_on_the_lines_of_the_fault(dip_deg):
    """Above edges and along the extension of a fault, where single terms blow up, displacement stays finite."""
    dip = math.radians(dip_deg)
    x, y = np.meshgrid([-2.0, 0.0, 1.0, 3.0, 5.0], [-2.0, 0.0, 2.0 * math.cos(dip), 4.0])
    fault = Fault(2.0 * math.sin(dip) + 1.0, dip, 3.0, 2.0)
    for slip in SLIPS.values():
        assert all(np.isfinite(part).all() for part in rectangular_dislocation(x, y, fault, slip))


def test_mogi_against_its_closed_form():
    """Vertical and radial displacement of 1e6 m3 at 2 km depth, to 1e-6 of a metre, beside values worked by hand."""
    moved = Mogi(0.0, 0.0, 2000.0, 1e6).displacement(np.array([0.0, 2000.0, 3000.0]), np.array([0.0, 0.0, 4000.0]))
    np.testing.assert_allclose(moved.up, [0.059683, 0.021101, 0.003057], atol=1e-6)
    np.testing.assert_allclose(np.hypot(moved.east, moved.north), [0.0, 0.021101, 0.007643], atol=1e-6)
    assert moved.north[2] / moved.east[2] == pytest.approx(4 / 3)


def test_horizontal_opening_lifts_its_own_volume():
    """The uplift of a sill or of a penny-shaped crack holds the volume that opened, whatever the medium."""
    step = 500.0
    east, north = grid(100_000.0, step)
    sill = Rectangle(0.0, 0.0, 3000.0, 20.0, 0.0, 3000.0, 2000.0, opening_m=0.5)
    penny = PennyCrack(0.0, 0.0, 3000.0, 1500.0, 3e6)
    for source in (sill, penny):
        lifted = float(np.sum(source.displacement(east, north).up)) * step**2
        assert lifted == pytest.approx(3e6, rel=1e-3)


def test_penny_crack_against_its_hankel_integral():
    """The closed form equals the numerical inverse transform of the elliptical opening."""
    depth, radius = 3000.0, 1500.0
    crack = PennyCrack(0.0, 0.0, depth, radius, 1e6)

    def opening(k):
        return (
            crack.opening_m * radius**2 * (math.sin(k * radius) - k * radius * math.cos(k * radius)) / (k * radius) ** 3
        )

    def up(k, r):
        return opening(k) * (1 + k * depth) * math.exp(-k * depth) * j0(k * r) * k

    def outwards(k, r):
        return opening(k) * k * depth * math.exp(-k * depth) * j1(k * r) * k

    for r in (1.0, 700.0, 2500.0, 6000.0):
        moved = crack.displacement(one(r), one(0.0))
        bounds = (1e-9, 30 / depth)
        assert float(moved.up[0]) == pytest.approx(quad(up, *bounds, args=(r,), limit=200)[0], rel=1e-6)
        assert float(moved.east[0]) == pytest.approx(quad(outwards, *bounds, args=(r,), limit=200)[0], rel=1e-6)


def test_distant_sill_and_penny_crack_agree():
    """Far away only the volume counts: a square sill and a crack of the same volume look the same."""
    east, north = grid(60_000.0, 20_000.0)
    sill = Rectangle(0.0, 0.0, 5000.0, 0.0, 0.0, 1000.0, 1000.0, opening_m=1.0).displacement(east, north)
    crack = PennyCrack(0.0, 0.0, 5000.0, 500.0, 1e6).displacement(east, north)
    for a, b in zip(sill, crack, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-2 * float(np.max(np.abs(sill.up))))


def test_round_spheroid_is_a_mogi_source():
    """As the axes become equal, direction stops to matter and Mogi's source is left."""
    east, north = grid(4000.0, 1000.0)
    sphere = Mogi(0.0, 0.0, 3000.0, 1e6).displacement(east, north)
    spheroid = Spheroid(0.0, 0.0, 3000.0, 1.001, 30.0, 60.0, 1e6).displacement(east, north)
    for a, b in zip(spheroid, sphere, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * float(sphere.up.max()))


def test_long_spheroid_opens_sideways():
    """A long closed pipe opens across its axis: 0.7 of its volume along each short axis, 0.2 along the long one."""
    short, long = spheroid_potencies(200.0)
    assert short == pytest.approx(0.7, abs=2e-3)
    assert long == pytest.approx(0.2, abs=2e-3)
    up = Spheroid(0.0, 0.0, 3000.0, 5.0, 0.0, 90.0, 1e6).displacement(one(0.0), one(0.0)).up
    assert float(up[0]) < float(Mogi(0.0, 0.0, 3000.0, 1e6).displacement(one(0.0), one(0.0)).up[0])


def test_three_tensile_planes_make_a_mogi_source():
    """Dislocations across three orthogonal axes sum to a sphere, which fixes the frames of strike and dip."""
    x, y = grid(5000.0, 1000.0)
    depth, dip = 3000.0, math.radians(35)
    unit = Slip(tensile=1e6)
    inclined = point_dislocation(x, y, Fault(depth, dip), unit)
    opposite = point_dislocation(-x, -y, Fault(depth, math.pi / 2 - dip), unit)
    # The third plane is vertical, across x: Okada's frame turned by 90 degrees, x to y and y to -x.
    across = point_dislocation(y, -x, Fault(depth, math.pi / 2), unit)
    total = (
        inclined[0] - opposite[0] - across[1],
        inclined[1] - opposite[1] + across[0],
        inclined[2] + opposite[2] + across[2],
    )
    sphere = Mogi(0.0, 0.0, depth, 5 / 3 * 1e6).displacement(x, y)
    for a, b in zip(total, sphere, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_opening_north_south_dyke_pushes_east_and_west():
    """A dyke that strikes north moves its sides apart, the ground to its west westwards."""
    dyke = Rectangle(0.0, 0.0, 2500.0, 0.0, 90.0, 6000.0, 3000.0, opening_m=1.0)
    moved = dyke.displacement(np.array([-3000.0, 3000.0]), np.array([0.0, 0.0]))
    assert moved.east[0] < 0 < moved.east[1]
    np.testing.assert_allclose(moved.north, 0.0, atol=1e-12)


def test_thrust_lifts_the_side_above_the_plane():
    """A thrust that strikes north and dips east lifts the east, where its hanging wall is."""
    thrust = Rectangle(0.0, 0.0, 1100.0, 0.0, 30.0, 20_000.0, 4000.0, slip_m=1.0, rake_deg=90.0)
    west, east = thrust.displacement(np.array([-2300.0, -1300.0]), np.array([0.0, 0.0])).up
    assert east > 0.3
    assert west < 0.1


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_displacement_is_linear_in_strength(source):
    """Scaling the strength scales the displacement, sign included."""
    east, north = grid(4000.0, 1000.0)
    scaled = source.scaled(-2.5)
    assert scaled.strength == pytest.approx(-2.5 * source.strength)
    for a, b in zip(scaled.displacement(east, north), source.displacement(east, north), strict=True):
        np.testing.assert_allclose(a, -2.5 * b, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_numpy_and_torch_agree(source):
    """The same physics gives the same numbers in both libraries, also from float32 coordinates."""
    east, north = (axis.astype(np.float32) for axis in grid(4000.0, 500.0))
    moved = source.displacement(east, north)
    torched = source.displacement(torch_xp.asarray(east), torch_xp.asarray(north))
    for a, b in zip(moved, torched, strict=True):
        assert isinstance(b, torch.Tensor)
        np.testing.assert_allclose(b.numpy(), a, rtol=1e-5, atol=1e-9)


def test_uplift_is_towards_the_satellite_and_negative_phase():
    """Uplift shortens the range from either pass: half a wavelength of it along the line is minus one cycle."""
    for look in (LookGeometry("ascending", 348.0, 39.0), LookGeometry("descending", 192.0, 39.0)):
        towards = line_of_sight(Mogi(0.0, 0.0, 3000.0, 1e6).displacement(one(0.0), one(0.0)), look)
        assert towards[0] > 0
        assert los_phase(towards)[0] < 0
    assert los_phase(WAVELENGTH_M / 2) == pytest.approx(-2 * math.pi)


def test_line_of_sight_of_both_passes():
    """Ascending passes look from the west, descending ones from the east (values for incidence 39 degrees)."""
    ascending = LookGeometry("ascending", 348.0, 39.0).towards_satellite
    descending = LookGeometry("descending", 192.0, 39.0).towards_satellite
    np.testing.assert_allclose(ascending, (-0.6156, -0.1308, 0.7771), atol=5e-5)
    np.testing.assert_allclose(descending, (0.6156, -0.1308, 0.7771), atol=5e-5)
