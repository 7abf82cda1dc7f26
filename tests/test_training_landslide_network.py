"""The landslide network: what may be missing, in which order it comes, and that it exports."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from training.networks import parameter_count  # noqa: E402 - after the skip: they need torch
from training.networks.landslide import (  # noqa: E402
    LOG_DENSITY,
    STEEPEST,
    LandslideConfig,
    LandslideNetwork,
    change_channels,
    judged,
    measure,
    pool,
    terrain,
)

NAN = float("nan")
SIZE = 32
TINY = LandslideConfig(
    acquisition_width=4, side_widths=(8, 8), embedding=8, widths=(8, 8, 8), refined=8, hidden=8, windows=(1, 3)
)


@pytest.fixture(scope="module")
def network():
    """Return a small untrained network whose running statistics are those of a few pairs."""
    torch.manual_seed(1)
    built = LandslideNetwork(TINY).train()
    for seed in range(3):
        built(*pair(seed))
    return built.eval()


def pair(seed, batch=2):
    """Return a pair with three acquisitions on each side, and heights."""
    random = torch.Generator().manual_seed(seed)
    pre, post = (torch.randn(batch, 3, 2, SIZE, SIZE, generator=random) * 3 - 13 for _ in range(2))
    return pre, post, torch.randn(batch, 1, SIZE, SIZE, generator=random).cumsum(2) * 10


def close(one, other):
    """Whether all three outputs of two runs agree."""
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True))


def test_the_order_of_acquisitions_does_not_matter(network):
    """Acquisitions of a side exchanged, every output stays; the sides exchanged, they do not."""
    pre, post, dem = pair(5)
    said = network(pre, post, dem)
    assert close(said, network(pre[:, [2, 0, 1]], post[:, [1, 2, 0]], dem))
    assert not close(said, network(post, pre, dem))


def test_what_an_absent_acquisition_holds_changes_nothing(network):
    """One acquisition a side says the same in any of the three places, and one of three given twice is not one."""
    pre, post, dem = pair(6)
    first, last = torch.full_like(pre, NAN), torch.full_like(pre, NAN)
    first[:, 0], last[:, 2] = pre[:, 1], pre[:, 1]
    assert close(network(first, post, dem), network(last, post, dem))
    assert not close(network(first, post, dem), network(pre, post, dem))


def test_one_missing_pixel_never_spreads(network):
    """With one pixel missing in every input all outputs are finite, and far pixels keep what stands about them."""
    pre, post, dem = pair(7)
    seen = change_channels(measure(pre, post, TINY), TINY)
    pre[:, :, :, 4, 5], dem[:, :, 4, 5] = NAN, NAN
    said = network(pre, post, dem)
    assert all(bool(part.isfinite().all()) for part in said)
    holed = change_channels(measure(pre, post, TINY), TINY)
    assert torch.equal(holed[..., 8:, :], seen[..., 8:, :])
    slopes = terrain(dem, 200.0)
    assert bool(slopes.isfinite().all())
    assert slopes[:, 4, 4, 5].sum() == 0
    assert slopes[:, 4].sum() == slopes[:, 4].numel() - len(slopes)


@pytest.mark.parametrize("missing", ["VV", "VH", "dem", "pre", "all"])
def test_missing_inputs_give_finite_logits(network, missing):
    """Without a band, heights, a side or anything at all, no output is NaN: the graph says what is not known."""
    pre, post, dem = pair(8)
    if missing in ("VV", "VH"):
        band = ("VV", "VH").index(missing)
        pre[:, :, band], post[:, :, band] = NAN, NAN
    if missing in ("dem", "all"):
        dem = torch.full_like(dem, NAN)
    if missing in ("pre", "all"):
        pre = torch.full_like(pre, NAN)
    if missing == "all":
        post = torch.full_like(post, NAN)
    said = network(pre, post, dem)
    assert all(bool(part.isfinite().all()) for part in said)
    assert bool((judged(measure(pre, post, TINY)) == (missing not in ("pre", "all"))).all())


def test_a_spike_of_the_dem_is_no_slope(network):
    """A pixel of 8,848 m in a plain is steep to a bound, and so is its relief: what is said stays near."""
    dem = torch.full((1, 1, 128, 128), 100.0)
    dem[..., 40, 50] = 8848.0
    found = terrain(dem, 200.0)
    assert float(found[:, 1:3].abs().max()) == STEEPEST
    assert float(found[:, 3].max()) == pytest.approx(STEEPEST * 64 * 10.0 / 200.0)


def test_terrain_is_used_where_it_is_known(network):
    """Heights change what is said; a plane has its slope everywhere, and heights above the sea do not matter."""
    pre, post, dem = pair(9)
    assert not close(network(pre, post, dem), network(pre, post, torch.full_like(dem, NAN)))
    plane = torch.arange(SIZE).float().mul(5)[:, None].expand(1, 1, SIZE, SIZE)
    steepness, southward, eastward, *_ = terrain(plane, 200.0)[0]
    assert torch.allclose(southward, torch.full_like(southward, 0.5))
    assert torch.allclose(steepness, southward, atol=1e-5)
    assert bool((eastward == 0).all())
    assert torch.allclose(terrain(plane + 1000, 200.0), terrain(plane, 200.0), atol=1e-4)


def test_change_is_a_ratio_of_mean_powers():
    """Twice the power after the event is 3.01 dB over any window; speckle is averaged before the logarithm."""
    pre = torch.full((1, 3, 2, SIZE, SIZE), NAN)
    post = pre.clone()
    pre[:, 0], pre[:, 1] = -10.0, -20.0
    post[:, 0] = 10 * math.log10(0.11)
    channels = change_channels(measure(pre, post, TINY), TINY)
    assert torch.allclose(channels[:, :4] * TINY.change_db, torch.tensor(10 * math.log10(2)), atol=1e-3)
    shares = channels[0, 6:, 0, 0].tolist()
    assert shares == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_pooling_leaves_out_what_was_not_seen():
    """Mean and maximum are those of the pixels with a weight, whatever stands elsewhere."""
    features = torch.zeros(1, 1, 4, 4)
    features[..., :2], features[..., 2:] = 3.0, 50.0
    weight = torch.zeros(1, 1, 8, 8)
    weight[..., :4] = 1
    assert pool(features, weight).tolist() == [[3.0, 3.0]]


def test_the_density_stays_within_its_bounds(network):
    """No input, however odd, gives a density that the ground could not hold."""
    pre, post, dem = pair(10)
    said = network(pre * 1e4, post - 1e6, dem * 1e4)
    assert bool(((said.log_density >= LOG_DENSITY[0]) & (said.log_density <= LOG_DENSITY[1])).all())


def test_the_shipped_network_is_small():
    """FP32 weights stay well within 15 MB."""
    assert parameter_count(LandslideNetwork(LandslideConfig())) < 3.5e6


@pytest.mark.filterwarnings("ignore")
def test_the_network_exports_with_any_batch(network, tmp_path):
    """The graph has a dynamic batch and says what the network says, one missing acquisition included."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    names = ("pre", "post", "dem")
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        network,
        pair(0),
        dynamo=True,
        opset_version=20,
        external_data=False,
        input_names=names,
        dynamic_shapes=({0: batch},) * 3,
        verbose=False,
    )
    program.save(tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    given = pair(11, batch=3)
    given[0][1, 2] = NAN
    found = session.run(None, {name: each.numpy() for name, each in zip(names, given, strict=True)})
    for one, other in zip(found, network(*given), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), atol=1e-4)
