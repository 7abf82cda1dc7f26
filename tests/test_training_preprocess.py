import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tocsin.manifest import Normalisation  # noqa: E402
from training.preprocess import MEASURABLE_DB, constants, encode, validity  # noqa: E402 - needs torch

NORMALISATION = Normalisation(low=(-40.0, -45.0), high=(15.0, 10.0), mean=(-11.0, -18.0), std=(5.0, 6.0))


def encoded(values):
    """Return what a network sees of one pixel [VV, VH], dB: four numbers."""
    s1 = torch.tensor(values, dtype=torch.float32).reshape(1, 2, 1, 1)
    return encode(s1, *constants(NORMALISATION)).flatten().tolist()


def test_scales_by_mean_and_spread() -> None:
    """The mean becomes zero and one standard deviation becomes one, per band."""
    assert encoded([-11.0, -18.0]) == [0.0, 0.0, 1.0, 1.0]
    assert encoded([-6.0, -24.0]) == [1.0, -1.0, 1.0, 1.0]


def test_clamps_to_the_stated_range() -> None:
    """What lies outside the range of a band is taken at its edge, and stays valid."""
    assert encoded([-60.0, 40.0]) == encoded([-40.0, 10.0])
    assert encoded([-60.0, 40.0])[2:] == [1.0, 1.0]


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf, -9999.0, 1e30, MEASURABLE_DB, -MEASURABLE_DB])
def test_what_is_no_measurement_is_zero_and_invalid(missing) -> None:
    """NaN, infinities and impossible values become zero with a validity of zero; the other band is untouched."""
    assert encoded([missing, -24.0]) == [0.0, -1.0, 0.0, 1.0]
    assert encoded([-6.0, missing]) == [1.0, 0.0, 1.0, 0.0]
    assert encoded([missing, missing]) == [0.0, 0.0, 0.0, 0.0]


def test_a_value_that_can_be_measured_is_valid() -> None:
    """The extremes of the public release, -60.4 and 36.8 dB, count as measured."""
    s1 = torch.tensor([-60.4, 36.8]).reshape(1, 2, 1, 1)
    assert validity(s1).all()


def test_a_missing_pixel_carries_no_gradient_of_nan() -> None:
    """Training on chips with holes gives finite gradients everywhere."""
    s1 = torch.full((1, 2, 4, 4), -12.0)
    s1[0, :, 1] = math.nan
    s1.requires_grad_()
    encode(s1, *constants(NORMALISATION)).sum().backward()
    assert torch.isfinite(s1.grad).all()


def test_keeps_shape_and_type() -> None:
    """[B, 2, H, W] float32 becomes [B, 4, H, W] float32, and the input is not written to."""
    s1 = torch.full((3, 2, 8, 16), math.nan)
    result = encode(s1, *constants(NORMALISATION))
    assert result.shape == (3, 4, 8, 16)
    assert result.dtype == torch.float32
    assert torch.isnan(s1).all()
