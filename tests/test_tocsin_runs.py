"""Runs and components against whole-array labelling."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tocsin.runs import components, find_runs

CODES = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 1, 2, 255]))


@settings(max_examples=150, deadline=None)
@given(CODES)
def test_components_are_those_of_a_whole_array_labelling(codes):
    """Every pixel gets the component that scipy finds for its class, for any raster."""
    runs = find_runs(codes, (1, 2))
    root = components(runs.start.size, runs.upper, runs.lower)
    ours = np.zeros(codes.size, dtype=np.int64)
    everything = runs.pixels(np.ones(runs.start.size, dtype=bool))
    ours[everything] = root[runs.at(everything)] + 1
    for code in (1, 2):
        theirs, count = ndimage.label(codes == code)
        pairs = set(zip(ours[(codes == code).ravel()].tolist(), theirs[codes == code].tolist(), strict=True))
        assert len(pairs) == count
        assert len({one for one, _ in pairs}) == count


@settings(max_examples=60, deadline=None)
@given(CODES)
def test_runs_hold_exactly_the_wanted_pixels(codes):
    """The pixels of all runs are the pixels of the wanted codes, in order, each with its code."""
    runs = find_runs(codes, (1, 255))
    everything = runs.pixels(np.ones(runs.start.size, dtype=bool))
    assert everything.tolist() == np.flatnonzero((codes == 1) | (codes == 255)).tolist()
    assert np.array_equal(runs.code[runs.at(everything)], codes.ravel()[everything])
    assert runs.length.sum() == everything.size


def test_a_long_chain_joins_whatever_the_order_of_its_links():
    """Pointer jumping ends with one root when links come in the worst order."""
    count = 5000
    order = np.random.default_rng(3).permutation(count - 1)
    assert not components(count, order + 1, order).any()
