"""Fit a series up to a day, and score all of it by the graph that would be written."""

import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from export.anomaly.fitting import FitRequest, fit_series
from tocsin.anomaly.evaluation import AnomalyReport, EpochScore, baseline_scores, event_figures
from tocsin.anomaly.manifest import GRAPH
from tocsin.anomaly.scoring import score_series
from tocsin.repository import Model
from tocsin.runtimes import RuntimeOptions


def evaluate_anomaly(
    request: FitRequest, model: Model, options: RuntimeOptions, events: Sequence[date] = ()
) -> AnomalyReport:
    """Return the scores of every epoch of a series.

    Parameters
    ----------
    request
        Series, last day to fit and choices.
    model
        Volcano model whose encoder is used.
    options
        How graphs are run.
    events
        Days of later epochs whose rank is wanted.

    Raises
    ------
    WrongDatesError
        See `fit_series` and `event_figures`.
    """
    from tocsin.runtimes.onnx import OnnxRuntime

    fitted = fit_series(request, model, options.threads)
    manifest, series = fitted.manifest, fitted.series
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / GRAPH
        path.write_bytes(fitted.graph)
        with OnnxRuntime(path, options) as runtime:
            scores = score_series(runtime, series.increments_m)
    held_out = {each.date: each.score for each in manifest.fit_epochs}
    left_out = set(manifest.left_out)
    for at, day in enumerate(series.dates):
        scores[at] = held_out.get(day, np.nan if day in left_out else scores[at])
    until = request.until or series.dates[-1]
    later = np.array([day > until for day in series.dates]) & np.isfinite(scores)
    places = [at for at, day in enumerate(series.dates) if day in held_out]
    every = {"score": scores, **baseline_scores(series.increments_m, places)}
    figures = event_figures(events, series.dates, every, later, manifest.threshold)
    quiet = later & ~np.isin(np.array(series.dates), np.array(list(events), dtype=object))
    above = scores > manifest.threshold
    return AnomalyReport(
        series=manifest.series.id,
        method=manifest.settings.method,
        fit_until=until,
        fit_epochs=len(held_out),
        later_epochs=int(later.sum()),
        threshold=manifest.threshold,
        threshold_rule=manifest.threshold_rule,
        alarms=int((later & above).sum()),
        false_alarm_rate=float((quiet & above).sum() / quiet.sum()) if quiet.any() else None,
        events=figures,
        epochs=tuple(
            EpochScore(
                id=day,
                fitted=day in held_out,
                score=float(score) if np.isfinite(score) else None,
                anomalous=bool(score > manifest.threshold) if np.isfinite(score) else None,
            )
            for day, score in zip(series.dates, scores, strict=True)
        ),
    )
