"""The precisions that are shipped: the same answer in any company, and nothing where nothing was seen."""

import numpy as np
import pytest

from tocsin.manifest import DYNAMIC
from tocsin.repository import find_repository, list_models, load_model, read_manifest
from tocsin.runtimes import RuntimeOptions, open_runtime

LARGEST_MODEL = 27_000_000
LOWER = [
    (name, precision)
    for name in list_models(find_repository())
    for precision in read_manifest(name, find_repository()).precisions
    if precision != "fp32"
]


def chips_of(manifest, batch):
    """Return chips of noise with holes, free axes at 64 px, the last chip nothing but NaN."""
    random = np.random.default_rng(5)
    chips = {}
    for spec in manifest.inputs:
        shape = [64 if size == DYNAMIC else size for size in spec.shape]
        values = random.normal(-2, 3, (batch, *shape)).astype(np.float32)
        values[random.random(values.shape) < 0.05] = np.nan
        values[-1] = np.nan
        chips[spec.name] = values
    return chips


@pytest.mark.parametrize(("name", "precision"), LOWER)
def test_batch_and_threads_change_nothing_and_nan_stays(name, precision) -> None:
    """Bit for bit the same alone or in a batch, on one thread or two; NaN exactly where float32 has it."""
    model = load_model(name, precision=precision)
    chips = chips_of(model.manifest, 3)
    with open_runtime(model, RuntimeOptions(precision=precision, threads=1)) as one:
        wanted = one.run(chips)
    with open_runtime(model, RuntimeOptions(precision=precision, threads=2)) as two:
        together = two.run(chips)
        alone = [two.run({key: values[at : at + 1] for key, values in chips.items()}) for at in range(3)]
    with open_runtime(load_model(name), RuntimeOptions()) as single:
        reference = single.run(chips)
    for key, values in wanted.items():
        np.testing.assert_array_equal(together[key], values)
        np.testing.assert_array_equal(np.concatenate([each[key] for each in alone]), values)
        np.testing.assert_array_equal(np.isnan(values), np.isnan(reference[key]))
        assert np.isnan(values[-1]).all()


@pytest.mark.parametrize("name", list_models(find_repository()))
def test_a_model_fits_into_the_wheel(name) -> None:
    """All precisions of a model together are at most 27 MB, and each lower one is smaller than float32."""
    sizes = [row.bytes for row in read_manifest(name).artifacts]
    assert sum(sizes) <= LARGEST_MODEL
    assert all(size < sizes[0] for size in sizes[1:])


@pytest.mark.parametrize(("name", "precision"), LOWER)
def test_a_shipped_precision_kept_its_limits(name, precision) -> None:
    """The figures in the manifest are within the limits beside them, on real chips too."""
    row = load_model(name, precision=precision).artifact
    parity = row.parity
    assert parity.reference == "fp32"
    assert parity.flipped_fraction <= parity.limit_flipped
    assert abs(parity.change) <= parity.limit_change <= 0.005
    assert all(each.same_nan for each in parity.rows)
    assert any(not each.case.startswith(("hard", "simulated")) for each in parity.rows)
    assert len(row.kept_fp32) < row.layers
    assert bool(row.calibration_chips) == (precision == "int8")
    judged_on = {each.worst for each in parity.rows}
    assert not judged_on & set(row.calibration_chips)
