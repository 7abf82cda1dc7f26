import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from export.chips import SHAPES, flood_chips, simulated, with_extremes, with_holes
from export.graph import SAMPLE_BATCH


@pytest.fixture(scope="module")
def cases():
    """Return the simulated batches by name."""
    return {batch.case: batch.inputs["s1"] for batch in flood_chips(None)}


def test_every_case_is_a_batch_that_a_graph_takes(cases) -> None:
    """Each case is float32 [batch, VV and VH, multiple of 32, multiple of 32]."""
    for chips in cases.values():
        assert chips.dtype == np.float32
        assert chips.ndim == 4
        assert chips.shape[1] == 2
        assert chips.shape[2] % 32 == chips.shape[3] % 32 == 0


def test_sizes_differ_from_the_traced_ones(cases) -> None:
    """Batch 1 and more, square and not, the model's own chip: none is the sample that the graph was traced with."""
    assert {chips.shape[0] for chips in cases.values()} >= {1, 2, 3, 4}
    assert (1, 2, 512, 512) in {chips.shape for chips in cases.values()}
    assert (SAMPLE_BATCH, 64, 96) not in SHAPES


def test_cases_cover_what_can_be_missing(cases) -> None:
    """Holes in one or both bands, each band alone, a chip of NaN beside a valid one, values out of range."""
    holes = np.isnan(cases["simulated, holes of NaN"])[0]
    assert (holes[0] & ~holes[1]).any()
    assert (~holes[0] & holes[1]).any()
    assert (holes[0] & holes[1]).any()
    for band, name in enumerate(("VV", "VH")):
        missing = np.isnan(cases[f"simulated, {name} missing"])[0]
        assert missing[band].all()
        assert not missing[1 - band].all()
    nothing = np.isnan(cases["nothing but NaN beside a valid chip"])
    assert nothing[0].all()
    assert not nothing[1].any()
    extremes = cases["values out of range: infinite, -9999, -60 to 37 dB"]
    assert np.isinf(extremes).any()
    assert (extremes == -9999).any()


def test_cases_are_the_same_every_time() -> None:
    """Chips come from a fixed seed, so that figures can be measured again."""
    first, again = simulated(5, (32, 64)), simulated(5, (32, 64))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, simulated(6, (32, 64)), equal_nan=True)
    np.testing.assert_array_equal(with_holes(first, 1), with_holes(again, 1))
    np.testing.assert_array_equal(with_extremes(first, 1), with_extremes(again, 1))


def test_holes_leave_the_chip_alone() -> None:
    """Making holes copies."""
    chip = simulated(5, (64, 64))
    before = chip.copy()
    with_holes(chip, 1)
    with_extremes(chip, 1)
    np.testing.assert_array_equal(chip, before)


def test_a_folder_without_chips_adds_none(tmp_path, cases) -> None:
    """A data folder that lacks the set gives the simulated cases only."""
    assert [batch.case for batch in flood_chips(tmp_path)] == list(cases)


@pytest.mark.data
def test_real_chips_follow(data, cases) -> None:
    """The hand-labelled chips come after the simulated ones, in dB, with their holes as NaN, each once."""
    real = {batch.case: batch.inputs["s1"] for batch in flood_chips(data) if batch.case not in cases}
    assert all(case.startswith("real, ") for case in real)
    assert len(real) >= 5
    spain = real["real, Spain_7370579"]
    assert spain.shape == (1, 2, 512, 512)
    assert -30 < np.nanmedian(spain) < -5
