"""Distances against closed forms and scipy."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tocsin.anomaly.gaussian import (
    Measure,
    distances,
    distances_from,
    fit_gaussians,
    offsets,
    squared_distances,
)

METHODS = ("padim", "wmaha", "nlml", "wnlml")
EPSILON = 0.01
LAYERS = np.array([0, 0, 1, 1, 1])
WEIGHTS = np.array([0.5, 0.5, 1.5, 1.5, 1.5])


@pytest.fixture
def normal():
    """Return embeddings of 12 epochs, 3 cells, 5 channels of two scales, correlated."""
    random = np.random.default_rng(3)
    mixed = random.normal(size=(12, 3, 5)) @ random.normal(size=(5, 5))
    return 4 + mixed * np.array([1, 1, 100, 100, 100])


@pytest.fixture
def others():
    """Return embeddings of four epochs."""
    return 4 + np.random.default_rng(4).normal(size=(4, 3, 5)) * np.array([3, 3, 300, 300, 300])


def by_hand(normal, cell):
    """Return mean, deviations and covariance of one cell, written out."""
    apart = normal - normal.mean(axis=0)
    deviation = np.array([np.sqrt((apart[..., layer == LAYERS] ** 2).mean()) for layer in LAYERS])
    divided = apart[:, cell] / deviation
    return normal[:, cell].mean(axis=0), deviation, np.cov(divided, rowvar=False) + EPSILON * np.eye(5)


def found(normal, others, method, weights):
    """Return distances through the fitted Gaussians."""
    gaussians = fit_gaussians(normal, LAYERS, EPSILON)
    squared = squared_distances(others, gaussians.mean, gaussians.whitening(weights))
    return distances(method, squared, offsets(method, gaussians))


def test_mahalanobis_is_the_closed_form(normal, others):
    """Padim is sqrt((x - m)' S^-1 (x - m)), with weights sqrt((w (x - m))' S^-1 (w (x - m)))."""
    for method, weights in (("padim", np.ones(5)), ("wmaha", WEIGHTS)):
        given = found(normal, others, method, weights)
        for cell in range(3):
            mean, deviation, covariance = by_hand(normal, cell)
            apart = weights * (others[:, cell] - mean) / deviation
            wanted = np.sqrt(np.einsum("nd,de,ne->n", apart, np.linalg.inv(covariance), apart))
            np.testing.assert_allclose(given[:, cell], wanted, rtol=1e-9)


def test_nlml_is_the_negative_log_likelihood(normal, others):
    """Nlml is what scipy calls -logpdf, constants included."""
    given = found(normal, others, "nlml", np.ones(5))
    for cell in range(3):
        mean, deviation, covariance = by_hand(normal, cell)
        wanted = -multivariate_normal(np.zeros(5), covariance).logpdf((others[:, cell] - mean) / deviation)
        np.testing.assert_allclose(given[:, cell], wanted, rtol=1e-9)


def test_weighted_nlml_weighs_the_square_only(normal, others):
    """Wnlml differs from nlml by half the difference of the squares."""
    plain, weighted = (found(normal, others, method, WEIGHTS) for method in ("wmaha", "wnlml"))
    unweighted = found(normal, others, "padim", np.ones(5))
    likelihood = found(normal, others, "nlml", np.ones(5))
    np.testing.assert_allclose(weighted - likelihood, (plain**2 - unweighted**2) / 2, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epochs", [4, 12])
def test_inner_products_give_the_same_distances(normal, others, method, epochs):
    """With fewer and with more epochs than channels, both ways to measure agree."""
    given = distances_from(normal[:epochs], others, Measure(method, WEIGHTS, LAYERS, EPSILON))
    np.testing.assert_allclose(given, found(normal[:epochs], others, method, WEIGHTS), rtol=1e-7)


def test_scale_of_a_layer_changes_nothing(normal, others):
    """An encoder whose layer is a hundred times larger gives the same distances."""
    scale = np.array([1, 1, 1e-2, 1e-2, 1e-2])
    before, after = found(normal, others, "wnlml", WEIGHTS), found(normal * scale, others * scale, "wnlml", WEIGHTS)
    np.testing.assert_allclose(before, after, rtol=1e-8)


def test_channels_that_never_move_are_no_division_by_zero(normal):
    """A layer that is constant in the fit set gives finite distances."""
    still = normal.copy()
    still[..., LAYERS == 1] = 7
    assert np.isfinite(found(still, still, "wnlml", WEIGHTS)).all()
