import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from export.parity import OutputLimits, ParityChips, ParityLimits, TorchReference, check, measure
from export.parity import compare as compare_rows
from tocsin.errors import ModelInvalidError
from tocsin.manifest import Parity

LIMITS = ParityLimits()


class Shows:
    """A runtime that returns the same water whatever it is given."""

    def __init__(self, water, name="shows"):
        self.water = np.asarray(water, dtype=np.float32)
        self.name = name

    def run(self, inputs):
        """Return the water."""
        del inputs
        return {"water": self.water}


def water(size=100):
    """Return [1, 1, size, size] probabilities without one within 0.01 of the threshold, a corner missing."""
    values = np.random.default_rng(1).random((1, 1, size, size)).astype(np.float32)
    values[np.abs(values - 0.5) < 0.01] = 0.9
    values[..., :10, :10] = np.nan
    return values


def compare(model_facts, given, wanted=None, limits=LIMITS):
    """Return the figures of one case."""
    batch = ParityChips("one", {"s1": np.zeros((1, 2, 32, 32), dtype=np.float32)})
    wanted = water() if wanted is None else wanted
    return measure(Shows(wanted, "reference"), Shows(given), [batch], model_facts, limits)


def test_the_same_values_pass(model_facts) -> None:
    """No difference, no flip, NaN in the same places: the figures say so, and the check is silent."""
    parity = compare(model_facts, water())

    (row,) = parity.rows
    assert (row.case, row.output, row.shape) == ("one", "water", (1, 1, 100, 100))
    assert (row.valid_pixels, row.max_difference, row.flipped_pixels, row.same_nan) == (9900, 0.0, 0, True)
    assert parity.reference == "reference"
    assert (parity.limit_difference, parity.limit_flipped) == (LIMITS.difference, LIMITS.flipped)
    check(parity, "a graph")


def test_the_limits_are_those_that_the_project_promises() -> None:
    """A ten-thousandth of probability, and one pixel in ten thousand."""
    assert (LIMITS.difference, LIMITS.flipped) == (1e-4, 1e-4)


def test_refuses_a_difference_over_the_limit(model_facts) -> None:
    """One pixel that is off by 2e-4 is enough, and the case is named."""
    given = water()
    given[0, 0, 50, 50] += 2e-4
    parity = compare(model_facts, given)

    assert parity.max_difference == pytest.approx(2e-4, rel=1e-2)
    with pytest.raises(ModelInvalidError, match="'one'"):
        check(parity, "a graph")


def test_keeps_a_difference_under_the_limit(model_facts) -> None:
    """Differences of 5e-5 everywhere are within what is promised."""
    parity = compare(model_facts, water() + np.float32(5e-5))
    assert 4e-5 < parity.max_difference < 6e-5
    check(parity, "a graph")


def test_counts_flips_at_the_models_threshold(model_facts) -> None:
    """A pixel that crosses the threshold counts, one that moves on the same side does not."""
    wanted = np.full((1, 1, 10, 10), 0.5, dtype=np.float32)
    given = wanted.copy()
    given[0, 0, 0, 0] -= 1e-6
    given[0, 0, 0, 1] += 1e-6
    assert compare(model_facts, given, wanted).rows[0].flipped_pixels == 1


def test_refuses_too_many_flips(model_facts) -> None:
    """Two flipped pixels in ten thousand are refused, however small their difference."""
    wanted = np.full((1, 1, 100, 100), 0.5, dtype=np.float32)
    given = wanted.copy()
    given[0, 0, 0, 0] -= 1e-6
    check(compare(model_facts, given, wanted), "a graph")

    given[0, 0, 0, 1] -= 1e-6
    with pytest.raises(ModelInvalidError, match="flipped"):
        check(compare(model_facts, given, wanted), "a graph")


@pytest.mark.parametrize("place", [(0, 0), (50, 50)], ids=["an answer where none may be", "none where one must be"])
def test_refuses_nan_elsewhere(model_facts, place) -> None:
    """A number at a missing pixel, or NaN at a valid one, is refused even if it is one pixel only."""
    given = water()
    row, col = place
    given[0, 0, row, col] = 0.9 if np.isnan(given[0, 0, row, col]) else np.nan
    parity = compare(model_facts, given)

    assert not parity.rows[0].same_nan
    with pytest.raises(ModelInvalidError, match="NaN"):
        check(parity, "a graph")


def test_refuses_an_infinity(model_facts) -> None:
    """Infinity against a number is over every limit, and still fits into a manifest."""
    given = water()
    given[0, 0, 50, 50] = np.inf
    parity = compare(model_facts, given)
    assert "Infinity" not in parity.model_dump_json()
    with pytest.raises(ModelInvalidError, match="difference"):
        check(parity, "a graph")


def test_nothing_but_nan_agrees(model_facts) -> None:
    """A chip without any answer has no valid pixel and no difference."""
    nothing = np.full((1, 1, 32, 32), np.nan, dtype=np.float32)
    parity = compare(model_facts, nothing, nothing)
    assert (parity.rows[0].valid_pixels, parity.max_difference, parity.flipped_fraction) == (0, 0.0, 0.0)
    check(parity, "a graph")


def test_an_output_in_a_unit_of_its_own_has_its_own_limit(model_facts) -> None:
    """A difference of 5e-4 passes where 1e-3 is allowed, is left out of the common figure, and flips nothing."""
    limits = ParityLimits(outputs={"water": OutputLimits(decision="none", difference=1e-3)})
    parity = compare(model_facts, water() - np.float32(5e-4), limits=limits)
    assert parity.rows[0].limit_difference == 1e-3
    assert (parity.max_difference, parity.rows[0].flipped_pixels) == (0.0, 0)
    check(parity, "a graph")
    with pytest.raises(ModelInvalidError, match=r"at most 0\.001") as refused:
        check(compare(model_facts, water() - np.float32(2e-3), limits=limits), "a graph")
    assert "water" in refused.value.given


def test_the_highest_band_decides_where_bands_compete(model_facts) -> None:
    """One of four chips gets another highest band; a chip without an answer decides nothing."""
    wanted = np.tile(np.array([0.2, 0.5, 0.3], np.float32), (5, 1))
    given = wanted.copy()
    given[1] = 0.5, 0.2, 0.3
    wanted[4] = given[4] = np.nan
    limits = ParityLimits(outputs={"water": OutputLimits(decision="highest")})
    row = compare(model_facts, given, wanted, limits).rows[0]
    assert (row.valid_pixels, row.flipped_pixels) == (4, 1)


def test_a_decision_that_is_not_said_is_none(model_facts) -> None:
    """Where another output stays below the threshold, a band that wins instead flips nothing."""
    kinds = model_facts.outputs[0].model_copy(update={"name": "kind"})
    facts = model_facts.model_copy(update={"outputs": (*model_facts.outputs, kinds)})
    wanted = {"water": np.array([[0.9], [0.1], [0.6]], np.float32), "kind": np.tile(np.float32([0.6, 0.4]), (3, 1))}
    given = wanted | {"kind": np.array([[0.6, 0.4], [0.4, 0.6], [0.4, 0.6]], np.float32)}
    limits = ParityLimits(outputs={"kind": OutputLimits(decision="highest", given="water")})
    _, row = compare_rows("one", wanted, given, facts, limits)
    assert (row.valid_pixels, row.flipped_pixels) == (2, 1)


def test_a_flipped_chip_does_not_drown_among_pixels(model_facts) -> None:
    """The share of flips is that of the worst output, however many pixels another one has."""
    (row,) = compare(model_facts, water()).rows
    chip = row.model_copy(update={"output": "verdict", "valid_pixels": 20, "flipped_pixels": 1})
    parity = Parity(reference="torch", limit_difference=1e-4, limit_flipped=1e-4, rows=(row, chip))
    assert parity.flipped_fraction == 1 / 20
    with pytest.raises(ModelInvalidError, match="verdict"):
        check(parity, "a graph")


def test_refuses_another_shape(model_facts) -> None:
    """A graph that gives back another size than the network did cannot be compared."""
    with pytest.raises(ModelInvalidError, match="shape"):
        compare(model_facts, water(64), water(96))


def test_the_reference_runs_the_module(tiny_checkpoint) -> None:
    """Torch's side takes and gives arrays by the manifest's names, in evaluation mode."""
    from export.model import prepare

    prepared = prepare(tiny_checkpoint)
    reference = TorchReference(prepared.module.train(), prepared.facts)
    chips = np.full((2, 2, 32, 64), -12.0, dtype=np.float32)
    chips[1] = np.nan

    outputs = reference.run({"s1": chips})

    assert list(outputs) == ["water"]
    assert outputs["water"].shape == (2, 1, 32, 64)
    assert np.isfinite(outputs["water"][0]).all()
    assert np.isnan(outputs["water"][1]).all()
    assert not prepared.module.training
