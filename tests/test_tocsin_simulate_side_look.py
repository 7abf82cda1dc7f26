"""What a side-looking radar sees of relief: incidence, layover, shadow, and scars in them."""

import numpy as np
import pytest
from simulation_stand_ins import ridge

from tocsin.simulate.side_look import seen_from
from tocsin.simulate.slide_ground import scar_factor


def test_incidence_on_a_roof():
    """Seen from the west, the western side of a roof is steeper to the wave by its slope, the eastern side flatter."""
    look = seen_from(ridge(slope_deg=20.0), 10.0, "ascending", (38.0, 90.0))
    np.testing.assert_allclose(look.local_incidence_deg[:, 5:25], 18.0, atol=0.05)
    np.testing.assert_allclose(look.local_incidence_deg[:, 40:60], 58.0, atol=0.05)
    assert not look.layover.any()
    assert not look.shadow.any()
    assert look.area_db[0, 10] > 2
    assert look.area_db[0, 50] < -1


@pytest.mark.parametrize(("azimuth_deg", "orbit_pass"), [(90.0, "ascending"), (270.0, "descending")])
def test_steep_sides_lie_in_layover_and_shadow(azimuth_deg, orbit_pass):
    """A side steeper than the incidence lies in layover; behind a steep ridge is shadow, on the far side only."""
    look = seen_from(ridge(slope_deg=60.0), 10.0, orbit_pass, (38.0, azimuth_deg))
    near, far = (slice(5, 25), slice(40, 60)) if azimuth_deg == 90 else (slice(40, 60), slice(5, 25))
    assert look.layover[:, near].all()
    assert look.shadow[:, far].all()
    assert not look.shadow[:, near].any()


def test_shadow_falls_as_far_as_the_wave_grazes():
    """A wall of 100 m casts shadow over 100 tan(incidence) metres of flat ground behind it."""
    dem = np.zeros((8, 64), np.float32)
    dem[:, 20] = 100
    look = seen_from(dem, 10.0, "ascending", (45.0, 90.0))
    behind = np.nonzero(look.shadow[4])[0]
    assert behind.min() == 21
    assert behind.max() in {28, 29, 30}


def test_scars_in_shadow_change_nothing():
    """Where no wave arrives a scar leaves no trace, and outside scars the factor is exactly one."""
    look = seen_from(ridge(slope_deg=60.0), 10.0, "ascending", (38.0, 90.0))
    coverage = np.zeros((64, 64), np.float32)
    coverage[10:20, :] = 1
    factor = scar_factor(coverage, np.full((2, 64, 64), -5.0, np.float32), look)
    assert (factor[:, look.shadow] == 1).all()
    assert (factor[:, coverage == 0] == 1).all()
    assert (factor[:, 10:20, 5:25] != 1).all()
