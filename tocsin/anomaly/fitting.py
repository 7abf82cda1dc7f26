"""Fit a series' normal epochs, and the reference that every fitted graph is held against."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.anomaly.gaussian import (
    FloatArray,
    Measure,
    distances,
    distances_from,
    fit_gaussians,
    offsets,
    squared_distances,
)
from tocsin.anomaly.geometry import CELLS, along_both, cell_shares, gaussian_weights, geometry_of
from tocsin.anomaly.preparation import TINY, Preparation, Prepared, fit_preparation, prepare
from tocsin.anomaly.settings import FitSettings

Encode = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]
"""Phase [N, 1, chip, chip], rad, NaN where missing, to feature maps [N, C, h, w] by name."""

SMOOTH_CELLS: Final = 1.0
"""Sigma of the smoothing of maps, cells: 8 px of the chip (PaDiM: 4 px on maps twice as fine)."""

LEAST_CELL: Final = 0.5
"""Share of a cell that must be measured to be judged."""

REACH: Final = 1e-3
BATCH: Final = 8
MOST_FOLDS: Final = 30


@dataclass(frozen=True)
class Channels:
    """Which channels make an embedding.

    Attributes
    ----------
    names
        Feature maps, finest first.
    picked
        Per feature map, ascending indices of its channels; a map may have none.
    weights
        float64 [d], one per channel picked.
    layers
        int64 [d], the feature map of each channel picked, 0 finest.
    """

    names: tuple[str, ...]
    picked: tuple[tuple[int, ...], ...]
    weights: FloatArray
    layers: NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """All that a fitted graph holds, beside its encoder.

    Attributes
    ----------
    settings, preparation, channels
        As fitted.
    cells
        int64 [P], flat indices of the cells that are judged.
    mean, whitening, offset
        [P, d], [P, d, d], [P]: see `tocsin.anomaly.gaussian`.
    """

    settings: FitSettings
    preparation: Preparation
    channels: Channels
    cells: NDArray[np.int64]
    mean: FloatArray
    whitening: FloatArray
    offset: FloatArray


@dataclass(frozen=True)
class FitResult:
    """A fit and what its own epochs say about it.

    Attributes
    ----------
    fitted
        The model.
    held_out
        float64 [N]: score of each fit epoch by a fit without it and its neighbours in time.
    threshold
        Score above which an epoch is anomalous.
    """

    fitted: Fitted
    held_out: FloatArray
    threshold: float


@dataclass(frozen=True)
class Scored:
    """Scores [N] and maps float64 [N, row, col] on the series' grid, both NaN where nothing was measured."""

    score: FloatArray
    maps: FloatArray


def fit(motion: NDArray[np.float32], encode: Encode, settings: FitSettings) -> FitResult:
    """Fit normal epochs.

    Parameters
    ----------
    motion
        [N, row, col], m toward the satellite, NaN where missing.
    encode
        The encoder.
    settings
        Choices.
    """
    geometry = geometry_of((motion.shape[1], motion.shape[2]))
    preparation = fit_preparation(motion, geometry, settings.scaling, settings.scale_quantile)
    there = cell_shares(preparation.observable_chip[None])[0] >= LEAST_CELL
    sample = encode(prepare(motion[:1], preparation).phase)
    channels = draw_channels({name: values.shape[1] for name, values in sample.items()}, settings)
    nothing = np.zeros((0,))
    fitted = Fitted(settings, preparation, channels, np.flatnonzero(there), nothing, nothing, nothing)
    embeddings, prepared = embed(motion, encode, fitted)
    held_out = hold_out(fitted, embeddings, prepared)
    threshold = float(np.quantile(held_out, settings.threshold_quantile))
    return FitResult(_with_gaussians(fitted, embeddings), held_out, threshold)


def hold_out(fitted: Fitted, embeddings: FloatArray, prepared: Prepared) -> FloatArray:
    """Return the score [N] of each fit epoch by a fit without it and its neighbours in time.

    Neighbours share an acquisition with it, and with that the delay of a day.
    """
    scores = np.empty(len(embeddings))
    for fold in np.array_split(np.arange(len(embeddings)), min(len(embeddings), MOST_FOLDS)):
        kept = np.r_[0 : max(0, fold[0] - 1), min(len(embeddings), fold[-1] + 2) : len(embeddings)]
        found = distances_from(embeddings[kept], embeddings[fold], measure_of(fitted))
        scores[fold] = score_distances(fitted, found, prepared.part(fold)).score
    return scores


def measure_of(fitted: Fitted) -> Measure:
    """Return how a fit measures distances."""
    settings, channels = fitted.settings, fitted.channels
    return Measure(settings.method, channels.weights, channels.layers, settings.epsilon)


def _with_gaussians(fitted: Fitted, embeddings: FloatArray) -> Fitted:
    """Return a fit with the Gaussians of embeddings [N, P, d]."""
    gaussians = fit_gaussians(embeddings, fitted.channels.layers, fitted.settings.epsilon)
    return replace(
        fitted,
        mean=gaussians.mean,
        whitening=gaussians.whitening(fitted.channels.weights),
        offset=offsets(fitted.settings.method, gaussians),
    )


def draw_channels(available: dict[str, int], settings: FitSettings) -> Channels:
    """Draw channels at random from all chosen feature maps together, as PaDiM does.

    Parameters
    ----------
    available
        Number of channels per feature map, finest first; only the maps of `settings.layers`.
    settings
        Number, seed and weights.
    """
    total = sum(available.values())
    number = min(settings.channels, total)
    drawn = np.sort(np.random.default_rng(settings.seed).choice(total, number, replace=False))
    first, picked, weights = 0, [], []
    for size, weight in zip(available.values(), settings.weights, strict=True):
        own = drawn[(drawn >= first) & (drawn < first + size)] - first
        picked.append(tuple(own.tolist()))
        weights += [weight] * len(own)
        first += size
    layers = np.repeat(np.arange(len(picked)), [len(own) for own in picked])
    return Channels(tuple(available), tuple(picked), np.array(weights), layers)


def embed(motion: NDArray[np.float32], encode: Encode, fitted: Fitted) -> tuple[FloatArray, Prepared]:
    """Return the embeddings [N, P, d] of motion [N, row, col] at the cells that are judged, and what was prepared."""
    parts, prepared = [], []
    for start in range(0, len(motion), BATCH):
        batch = prepare(motion[start : start + BATCH], fitted.preparation)
        parts.append(gather(encode(batch.phase), fitted))
        prepared.append(batch)
    return np.concatenate(parts), Prepared.joined(prepared)


def gather(features: dict[str, NDArray[np.float32]], fitted: Fitted) -> FloatArray:
    """Return embeddings [N, P, d]: finer maps averaged into cells, coarser ones repeated (nearest, as in PaDiM)."""
    parts = []
    for name, picked in zip(fitted.channels.names, fitted.channels.picked, strict=True):
        values = features[name][:, list(picked)].astype(np.float64)
        count, channels, side = values.shape[:3]
        if side > CELLS:
            step = side // CELLS
            values = values.reshape(count, channels, CELLS, step, CELLS, step).mean(axis=(3, 5))
        else:
            values = values.repeat(CELLS // side, axis=2).repeat(CELLS // side, axis=3)
        parts.append(values.reshape(count, channels, -1)[:, :, fitted.cells])
    return np.swapaxes(np.concatenate(parts, axis=1), 1, 2)


def score(motion: NDArray[np.float32], encode: Encode, fitted: Fitted) -> Scored:
    """Return scores and maps of motion [N, row, col], m: what the fitted graph must give."""
    embeddings, seen = embed(motion, encode, fitted)
    squared = squared_distances(embeddings, fitted.mean, fitted.whitening)
    return score_distances(fitted, distances(fitted.settings.method, squared, fitted.offset), seen)


def score_distances(fitted: Fitted, found: FloatArray, prepared: Prepared) -> Scored:
    """Return scores and maps of distances [N, P]."""
    cells = np.zeros((len(found), CELLS * CELLS))
    cells[:, fitted.cells] = found
    judged = judged_cells(fitted, prepared.measured)
    kernel = gaussian_weights(CELLS, SMOOTH_CELLS)
    weight = along_both(kernel, judged, kernel)
    smooth = along_both(kernel, cells.reshape(judged.shape) * judged, kernel) / np.maximum(weight, TINY)
    highest = np.where(judged > 0, smooth, -np.inf).max(axis=(1, 2))
    up_rows, up_cols = fitted.preparation.geometry.up_rows, fitted.preparation.geometry.up_cols
    reach = along_both(up_rows, judged, up_cols)
    drawn = along_both(up_rows, smooth * judged, up_cols) / np.maximum(reach, TINY)
    maps = np.where(prepared.valid & (reach >= REACH), drawn, np.nan)
    return Scored(np.where(np.isfinite(highest), highest, np.nan), maps)


def judged_cells(fitted: Fitted, measured: NDArray[np.bool_]) -> FloatArray:
    """Return 1.0 where a cell is fitted and measured enough, else 0.0: [N, row, col]."""
    known = np.zeros(CELLS * CELLS, dtype=bool)
    known[fitted.cells] = True
    return np.where((cell_shares(measured) >= LEAST_CELL) & known.reshape(CELLS, CELLS), 1.0, 0.0)
