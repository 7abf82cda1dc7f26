"""Figures of a detector on calls whose answer is known by counting."""

import numpy as np
import pytest

from tocsin.detection_figures import auroc, average_precision, best_accuracy, calibration_error, count, shortcut

TRUTH = np.array([True, True, False, False, False, False])


def test_counts_and_their_shares():
    """One of two positives caught, one of four negatives called by mistake."""
    counts = count(np.array([True, False, True, False, False, False]), TRUTH)
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (1, 1, 1, 3)
    assert counts.accuracy == pytest.approx(4 / 6)
    assert counts.balanced_accuracy == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_one_class_has_no_balanced_figure():
    """Where a class is missing neither balanced accuracy nor AUROC is invented."""
    counts = count(np.array([True, False]), np.array([True, True]))
    assert counts.accuracy == 0.5
    assert counts.balanced_accuracy is None
    assert auroc(np.array([0.1, 0.9]), np.array([True, True])) is None
    assert best_accuracy(np.array([0.1, 0.9]), np.array([True, True]), balanced=True) is None


def test_nothing_has_no_figure():
    """Without pictures there is no figure at all."""
    none, nobody = np.zeros(0), np.zeros(0, np.bool_)
    assert count(nobody, nobody).accuracy is None
    assert (auroc(none, nobody), calibration_error(none, nobody), best_accuracy(none, nobody)) == (None, None, None)


def test_auroc_is_the_share_of_ordered_pairs():
    """Counted pair by pair, ties counting half."""
    random = np.random.default_rng(0)
    scores, truth = random.integers(0, 6, 60).astype(float), random.random(60) < 0.4
    pairs = [(high > low) + (high == low) / 2 for high in scores[truth] for low in scores[~truth]]
    assert auroc(scores, truth) == pytest.approx(np.mean(pairs))


def test_best_accuracy_is_that_of_the_best_cut():
    """Every threshold and both signs tried one by one give the same."""
    random = np.random.default_rng(1)
    for _ in range(20):
        scores, truth = random.integers(0, 5, 30).astype(float), random.random(30) < 0.3
        truth[:2] = True, False
        plain, balanced = [], []
        for cut in [*np.unique(scores), np.inf]:
            for called in (scores >= cut, scores < cut):
                counts = count(called, truth)
                plain.append(counts.accuracy)
                balanced.append(counts.balanced_accuracy)
        assert best_accuracy(scores, truth) == pytest.approx(max(plain))
        assert best_accuracy(scores, truth, balanced=True) == pytest.approx(max(balanced))


def test_calibration_error_is_the_gap_per_bin():
    """Ten scores of 0.9 of which six are right are off by 0.3, and one of 1 belongs to the last bin."""
    scores, truth = np.full(10, 0.9), np.arange(10) < 6
    assert calibration_error(scores, truth) == pytest.approx(0.3)
    assert calibration_error(np.array([1.0]), np.array([True])) == 0


def test_a_shortcut_takes_its_better_sign():
    """A number that is low on positives is as good a shortcut as one that is high."""
    values = np.array([0.1, 0.2, 0.5, 0.6, 0.7, 0.8])
    found = shortcut("number", values, TRUTH)
    assert (found.auroc, found.accuracy, found.balanced_accuracy, found.more_is_positive) == (1, 1, 1, False)
    assert shortcut("number", -values, TRUTH).more_is_positive


def test_average_precision_is_the_mean_over_positives():
    """Three positives caught by the first, third and fourth call: 1, 2/3 and 3/4; ties are caught together."""
    truth = np.array([True, False, True, True, False])
    ranked = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert average_precision(ranked, truth) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert average_precision(ranked[::-1].copy(), truth[::-1].copy()) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert average_precision(np.zeros(5), truth) == pytest.approx(3 / 5)
    assert average_precision(ranked, np.zeros(5, np.bool_)) is None
