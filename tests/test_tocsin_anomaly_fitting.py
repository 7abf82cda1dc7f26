"""A series with a known event, an encoder of plain averages: scores, maps, thresholds."""

import numpy as np
import pytest

from tocsin.anomaly.fitting import MOST_FOLDS, draw_channels, embed, fit, hold_out, measure_of, score, score_distances
from tocsin.anomaly.gaussian import distances_from
from tocsin.anomaly.settings import FitSettings


def quiet(count, shape=(100, 120), seed=0):
    """Return epochs of smooth delay, m."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[: shape[0], : shape[1]]
    mixed = random.uniform(-0.01, 0.01, (count, 2, 1, 1))
    waves = mixed[:, 0] * np.sin(row / 30) + mixed[:, 1] * np.cos(col / 40)
    return waves.astype(np.float32) + random.normal(0, 1e-3, (count, *shape)).astype(np.float32)


def uplift(shape=(100, 120), place=(40, 80), peak_m=0.1):
    """Return a bell of motion, m."""
    row, col = np.mgrid[: shape[0], : shape[1]]
    return (peak_m * np.exp(-((row - place[0]) ** 2 + (col - place[1]) ** 2) / 200)).astype(np.float32)


def encode(phase):
    """Return block means of cosine, sine and validity: maps of 56, 28 and 14 px with 4, 4 and 4 channels."""
    valid = np.isfinite(phase)
    angle = np.where(valid, phase, 0)
    layers = np.concatenate([np.cos(angle) * valid, np.sin(angle) * valid, valid, np.sin(2 * angle) * valid], axis=1)
    found = {}
    for layer, step in ((1, 4), (2, 8), (3, 16)):
        side = 224 // step
        blocks = layers.reshape(len(phase), 4, side, step, side, step).mean(axis=(3, 5))
        found[f"features_{layer}"] = blocks.astype(np.float32)
    return found


@pytest.fixture(scope="module")
def fitted():
    """Return a fit of 20 quiet epochs."""
    return fit(quiet(20), encode, FitSettings(channels=10))


@pytest.mark.parametrize("method", ["padim", "wmaha", "nlml", "wnlml"])
def test_an_event_scores_above_the_threshold_and_where_it_is(method):
    """The event is first of all later epochs, above the threshold without weights, its map highest at the source."""
    result = fit(quiet(50), encode, FitSettings(channels=10, method=method))
    later = quiet(9, seed=7)
    later[4] += uplift(peak_m=0.03)
    found = score(later, encode, result.fitted)
    assert int(np.argmax(found.score)) == 4
    # Weights blow up what the coarsest map of this plain encoder lacks, in the held-out epochs as well.
    assert found.score[4] > result.threshold or method in {"wmaha", "wnlml"}
    peak = np.unravel_index(np.argmax(found.maps[4]), (100, 120))
    assert np.hypot(peak[0] - 40, peak[1] - 80) < 20


def test_the_threshold_is_the_quantile_of_held_out_scores(fitted):
    """By default the highest; a lower quantile gives a lower threshold from the same scores."""
    assert fitted.threshold == fitted.held_out.max()
    lower = fit(quiet(20), encode, FitSettings(channels=10, threshold_quantile=0.8))
    np.testing.assert_allclose(lower.held_out, fitted.held_out)
    assert lower.threshold == pytest.approx(np.quantile(fitted.held_out, 0.8))


def test_fit_epochs_are_judged_without_themselves():
    """Scores of fit epochs by the whole fit are below the held-out ones."""
    result = fit(quiet(20), encode, FitSettings(channels=10, method="padim"))
    assert (score(quiet(20), encode, result.fitted).score < result.held_out).all()


def test_held_out_leaves_out_the_neighbours_too(fitted):
    """The first epoch's score is that of a fit without the first two."""
    motion = quiet(20)
    embeddings, prepared = embed(motion, encode, fitted.fitted)
    found = distances_from(embeddings[2:], embeddings[:1], measure_of(fitted.fitted))
    wanted = score_distances(fitted.fitted, found, prepared.part(np.arange(1))).score
    np.testing.assert_allclose(fitted.held_out[:1], wanted)


def test_many_epochs_are_held_out_in_folds():
    """More epochs than folds: each still gets a score."""
    result = fit(quiet(MOST_FOLDS + 5), encode, FitSettings(channels=3))
    assert np.isfinite(result.held_out).all()
    assert len(result.held_out) == MOST_FOLDS + 5


def test_nothing_measured_is_no_score(fitted):
    """An empty image gives NaN, and the images beside it are the same as alone."""
    both = quiet(2, seed=3)
    alone = score(both[:1], encode, fitted.fitted)
    both[1] = np.nan
    found = score(both, encode, fitted.fitted)
    assert np.isnan(found.score[1])
    assert np.isnan(found.maps[1]).all()
    np.testing.assert_allclose(found.score[0], alone.score[0])
    np.testing.assert_allclose(found.maps[0], alone.maps[0])


def test_a_hole_is_never_normal_and_never_alarms(fitted):
    """What is not measured is NaN in the map; a hole alone stays below an event."""
    holed = quiet(1, seed=9)
    whole = score(holed, encode, fitted.fitted)
    holed[0, 10:60, 60:110] = np.nan
    found = score(holed, encode, fitted.fitted)
    np.testing.assert_array_equal(np.isnan(found.maps[0]), np.isnan(holed[0]))
    event = score(quiet(1, seed=9) + uplift(), encode, fitted.fitted)
    assert found.score[0] < event.score[0]
    assert np.isfinite(whole.score[0])


def test_channels_are_drawn_the_same_again():
    """The seed decides, all layers together; weights rise with depth and their mean over layers is one."""
    settings = FitSettings(channels=6)
    available = {"features_1": 4, "features_2": 4, "features_3": 4}
    once, again = draw_channels(available, settings), draw_channels(available, settings)
    assert once.picked == again.picked
    assert sum(len(each) for each in once.picked) == 6
    assert settings.weights == (0.5, 1.0, 1.5)
    np.testing.assert_allclose(once.weights, np.array([0.5, 1.0, 1.5])[once.layers])
    other = draw_channels(available, FitSettings(channels=6, seed=1))
    assert other.picked != once.picked
    assert FitSettings(method="padim").weights == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "wrong", [{"layers": (2, 1)}, {"layers": (1, 5)}, {"layer_weights": (1, 2)}, {"layer_weights": (0, 1, 2)}]
)
def test_settings_that_contradict_are_refused(wrong):
    """Layers ascend within 1 to 4, and each has a positive weight."""
    with pytest.raises(ValueError, match=r"layers|weight"):
        FitSettings(**wrong)


def test_hold_out_keeps_the_order(fitted):
    """Scores come in the order of the epochs: an odd one in the fit set stands out at its own place."""
    motion = quiet(20)
    motion[13] += uplift()
    embeddings, prepared = embed(motion, encode, fitted.fitted)
    assert int(np.argmax(hold_out(fitted.fitted, embeddings, prepared))) == 13
