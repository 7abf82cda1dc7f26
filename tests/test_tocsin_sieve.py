"""The sieve against a whole-array oracle."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tocsin import sieve as module
from tocsin.sieve import SIEVE_PX, sieve

CODES = arrays(
    np.uint8,
    st.tuples(st.integers(1, 60), st.integers(1, 12)),
    elements=st.sampled_from([0, 0, 0, 1, 1, 1, 1, 254, 255]),
)


def oracle(codes, size, keep_specks=False):
    """Label the whole array; drop specks, then fill holes that nothing unknown touches."""
    result = codes.copy()
    labels, count = ndimage.label(result == 1)
    for label in range(1, count + 1):
        if (labels == label).sum() < size and not keep_specks:
            result[labels == label] = 0
    labels, count = ndimage.label(result == 0)
    unknown = ndimage.binary_dilation(np.pad(result >= 254, 1, constant_values=True))[1:-1, 1:-1]
    filled = result.copy()
    for label in range(1, count + 1):
        if (labels == label).sum() < size and not unknown[labels == label].any():
            filled[labels == label] = 1
    return filled


def in_strips(codes, heights):
    """Cut rows into strips of the given heights, over and over."""
    row = 0
    while row < len(codes):
        for height in heights:
            yield row, codes[row : row + height]
            row += height
            if row >= len(codes):
                return


def joined(strips):
    """Put strips back together, checking that they follow each other."""
    rows, parts = zip(*strips, strict=True)
    assert list(rows) == np.cumsum([0, *(len(part) for part in parts[:-1])]).tolist()
    return np.concatenate(parts)


@settings(max_examples=200, deadline=None)
@given(CODES, st.integers(1, 7), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 20), st.booleans())
def test_strips_give_what_the_whole_array_gives(codes, size, heights, minimum, keep_specks):
    """For any raster, size and strips the result is the oracle's."""
    with patch.object(module, "_MIN_ROWS", minimum):
        sieved = joined(sieve(in_strips(codes, heights), size, keep_specks=keep_specks))
    assert np.array_equal(sieved, oracle(codes, size, keep_specks))


@settings(max_examples=60, deadline=None)
@given(CODES)
def test_unknown_pixels_stay_and_nothing_else_becomes_unknown(codes):
    """254 and 255 are where they were, and only there."""
    result = joined(sieve([(0, codes)]))
    assert np.array_equal(result >= 254, codes >= 254)
    assert np.array_equal(result[codes >= 254], codes[codes >= 254])


@pytest.mark.parametrize(("hole", "filled"), [(SIEVE_PX - 1, True), (SIEVE_PX, False)])
def test_the_stated_size_is_the_smallest_that_stays(hole, filled):
    """A hole one pixel below the size is filled, one of the size is kept."""
    codes = np.ones((7, SIEVE_PX + 4), dtype=np.uint8)
    codes[3, 2 : 2 + hole] = 0
    assert bool(joined(sieve([(0, codes)]))[3, 2] == 1) is filled


@pytest.mark.parametrize("unknown", [254, 255])
def test_a_hole_beside_the_unknown_is_never_filled(unknown):
    """Where the hole might go on unseen, dry stays dry."""
    codes = np.ones((9, 9), dtype=np.uint8)
    codes[4, 4], codes[4, 5] = 0, unknown
    assert joined(sieve([(0, codes)]))[4, 4] == 0


def test_a_strip_passes_once_its_surroundings_are_known():
    """Memory is bounded: rows come out long before the last strip went in."""
    taken = []

    def strips():
        for row in range(0, 4096, 64):
            taken.append(row)
            yield row, np.ones((64, 8), dtype=np.uint8)

    next(sieve(strips()))
    assert taken[-1] < 512
