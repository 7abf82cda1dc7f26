"""Fit a series: cut the encoder, fit, write the graph, hold it against the reference, and only then write the model."""

import hashlib
import json
import re
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export.anomaly.encoder import cut_encoder, running
from export.anomaly.graph import fitted_graph
from tocsin import __version__
from tocsin.anomaly.fitting import SMOOTH_CELLS, Encode, FitResult, fit, score
from tocsin.anomaly.geometry import factor_of
from tocsin.anomaly.manifest import (
    GRAPH,
    INPUT,
    MANIFEST,
    MAP,
    SCORE,
    AnomalyManifest,
    Constants,
    EncoderFacts,
    HeldOut,
    SeriesFacts,
)
from tocsin.anomaly.preparation import FILL_SIGMA_PX
from tocsin.anomaly.settings import LEAST_FIT, FitSettings
from tocsin.errors import ModelInvalidError, ProductExistsError, UsageError, WrongDatesError
from tocsin.manifest import FileRecord, Parity, ParityRow
from tocsin.repository import Model
from tocsin.runtimes import Runtime, RuntimeOptions
from tocsin.series import LicsarSeries, read_series

LIMIT: Final = 1e-3
"""Largest difference of graph and reference, as a share of the largest reference value: float32 against float64."""

FRAME: Final = re.compile(r"\d{3}[AD]_\d{5}_\d{6}")
PARITY_EPOCHS: Final = 6

RULE: Final = (
    "quantile {quantile:g} of the scores of the {count} fit epochs, each by a fit without it and its neighbours in time"
)


@dataclass(frozen=True)
class FitRequest:
    """What to fit.

    Attributes
    ----------
    series
        npz file.
    until
        Last day that may be fitted; None: all.
    settings
        Choices.
    """

    series: Path
    until: date | None
    settings: FitSettings


@dataclass(frozen=True)
class FittedModel:
    """A model in memory: its graph's bytes, its manifest, and the series it was fitted to."""

    graph: bytes
    manifest: AnomalyManifest
    series: LicsarSeries

    def write(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write both files into a folder; it appears whole or not at all.

        Raises
        ------
        ProductExistsError
            The folder exists and `overwrite` is False.
        """
        refuse_existing(folder, overwrite=overwrite)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = folder.with_name(f".tocsin-{secrets.token_hex(8)}.part")
        try:
            aside.mkdir()
            (aside / GRAPH).write_bytes(self.graph)
            (aside / MANIFEST).write_text(self.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is there, and never replace what is no fitted model.

    Raises
    ------
    ProductExistsError
        The folder exists and `overwrite` is False.
    UsageError
        It exists and holds anything else than a fitted model.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise ProductExistsError(f"{folder}, which exists", "a name that is free", "pass --overwrite or another -o")
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - {GRAPH, MANIFEST}:
        raise UsageError(f"-o {folder}, which is no fitted model", "a fitted model to replace", "choose another -o")


def fit_series(request: FitRequest, model: Model, threads: int | None = None) -> FittedModel:
    """Fit the epochs of a series up to a day.

    Parameters
    ----------
    request
        What to fit.
    model
        Volcano model whose encoder is used.
    threads
        CPU threads; None: all cores.

    Raises
    ------
    WrongDatesError
        Too few epochs up to that day, or that day lies outside the series.
    ModelInvalidError
        The model has no named feature maps, or the graph differs from the reference.
    """
    series = read_series(request.series)
    usable, empty = fit_epochs(series, request.until)
    encoder = cut_encoder(model.path, request.settings.layers)
    with running(encoder, threads) as encode:
        result = fit(series.increments_m[usable], encode, request.settings)
        said = _said(request, series, model, result)
        proto = fitted_graph(encoder, result.fitted, {name: json.dumps(value) for name, value in said.items()})
        content = proto.SerializeToString()
        parity = measure_parity(content, result, encode, series.increments_m[usable])
    manifest = AnomalyManifest.model_validate(
        {
            **said,
            "fit_epochs": [
                HeldOut(date=series.dates[at], score=float(each))
                for at, each in zip(usable, result.held_out, strict=True)
            ],
            "left_out": [series.dates[at] for at in empty],
            "parity": parity,
            "graph": FileRecord(path=GRAPH, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
        }
    )
    return FittedModel(content, manifest, series)


def fit_epochs(series: LicsarSeries, until: date | None) -> tuple[list[int], list[int]]:
    """Return the epochs to fit, and those of that time that hold nothing (all missing, or one value).

    Raises
    ------
    WrongDatesError
        `until` lies before the first or after the last epoch, or leaves too few.
    """
    if until is not None and not series.dates[0] <= until <= series.dates[-1]:
        raise WrongDatesError(
            f"--fit-until {until}",
            f"a day from {series.dates[0]} to {series.dates[-1]}",
            "choose one within the series",
        )
    wanted = [at for at, day in enumerate(series.dates) if until is None or day <= until]
    held = {at: series.increments_m[at][np.isfinite(series.increments_m[at])] for at in wanted}
    usable = [at for at in wanted if held[at].size and float(np.ptp(held[at])) > 0]
    if len(usable) < LEAST_FIT:
        raise WrongDatesError(
            f"{len(usable)} epochs with measurements to fit",
            f"at least {LEAST_FIT}",
            "pass a longer series or a later --fit-until",
        )
    return usable, [at for at in wanted if at not in usable]


def _said(request: FitRequest, series: LicsarSeries, model: Model, result: FitResult) -> dict[str, object]:
    """Return what manifest and graph both say."""
    fixed = result.fitted.preparation
    frame = FRAME.search(request.series.name)
    picked = zip(result.fitted.channels.names, result.fitted.channels.picked, strict=True)
    facts = SeriesFacts(
        id=request.series.stem,
        sha256=hashlib.sha256(request.series.read_bytes()).hexdigest(),
        frame=frame[0] if frame else "",
        shape=(len(series.lats), len(series.lons)),
        lat_deg=(float(series.lats[0]), float(series.lats[-1])),
        lon_deg=(float(series.lons[0]), float(series.lons[-1])),
    )
    constants = Constants(
        rad_per_m=fixed.rad_per_m,
        fill_sigma_px=FILL_SIGMA_PX,
        metres_per_pi=np.pi / -fixed.rad_per_m,
        grid_px_per_chip_px=factor_of(fixed.geometry.shape),
        smooth_cells=SMOOTH_CELLS,
        cells=len(result.fitted.cells),
        channels=dict(picked),
    )
    known = model.manifest
    encoder = EncoderFacts(
        model=known.name, version=known.version, sha256=model.sha256, architecture=known.architecture.name
    )
    rule = RULE.format(quantile=request.settings.threshold_quantile, count=len(result.held_out))
    records = {"series": facts, "encoder": encoder, "settings": request.settings, "constants": constants}
    return {
        "kind": "anomaly",
        "tocsin": __version__,
        **{name: record.model_dump(mode="json") for name, record in records.items()},
        "threshold": result.threshold,
        "threshold_rule": rule,
        "licence": known.licence,
        "attribution": known.attribution,
    }


def measure_parity(content: bytes, result: FitResult, encode: Encode, motion: NDArray[np.float32]) -> Parity:
    """Return how far the graph is from the numpy reference, and refuse it when that is too far.

    Raises
    ------
    ModelInvalidError
        A difference over the limit, or NaN in other places.
    """
    from tocsin.runtimes.onnx import OnnxRuntime

    cases = parity_cases(motion)
    rows: list[ParityRow] = []
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        path = Path(folder) / GRAPH
        path.write_bytes(content)
        with OnnxRuntime(path, RuntimeOptions()) as runtime:
            for case, batch in cases.items():
                rows += _rows(case, batch, (result, encode, runtime))
    parity = Parity(reference="numpy, float64", limit_difference=LIMIT, limit_flipped=0, rows=tuple(rows))
    worst = max(rows, key=lambda row: (not row.same_nan, row.max_difference))
    if parity.max_difference > LIMIT or not worst.same_nan or parity.flipped_fraction > 0:
        raise ModelInvalidError(
            f"a fitted graph with a difference of {worst.max_difference:.3g} in {worst.case!r} ({worst.output})",
            f"at most {LIMIT:g} of the largest value, and NaN in the same places",
            "raise --epsilon: the covariances are too close to singular for float32",
        )
    return parity


def parity_cases(motion: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return what graph and reference are compared on: fit epochs, a hole, a large motion, nothing at all."""
    epochs = np.linspace(0, len(motion) - 1, min(PARITY_EPOCHS, len(motion))).astype(int)
    holed = motion[:1].copy()
    rows, cols = holed.shape[1:]
    holed[:, rows // 4 : rows // 2, cols // 4 :] = np.nan
    moved = motion[-1:].copy()
    moved[:, rows // 3 : rows // 2, cols // 3 : cols // 2] += 0.5
    return {
        "fit epochs": motion[epochs],
        "a hole": holed,
        "half a metre": moved,
        "nothing measured": np.full_like(holed, np.nan),
    }


def _rows(case: str, batch: NDArray[np.float32], parties: tuple[FitResult, Encode, Runtime]) -> list[ParityRow]:
    result, encode, runtime = parties
    wanted = score(batch, encode, result.fitted)
    given = runtime.run({INPUT: batch[:, None]})
    rows = []
    for name, reference in ((SCORE, wanted.score[:, None]), (MAP, wanted.maps[:, None])):
        both = np.isfinite(reference) & np.isfinite(given[name])
        size = max(1.0, float(np.max(np.abs(reference[both]), initial=0)))
        apart = float(np.max(np.abs(reference[both] - given[name][both]), initial=0)) / size
        sides = (reference[both] > result.threshold) != (given[name][both] > result.threshold)
        near = np.abs(reference[both] - result.threshold) <= LIMIT * size
        rows.append(
            ParityRow(
                case=case,
                output=name,
                shape=reference.shape,
                valid_pixels=int(both.sum()),
                max_difference=float(f"{apart:.3g}"),
                flipped_pixels=int((sides & ~near).sum()),
                same_nan=bool(np.array_equal(np.isnan(reference), np.isnan(given[name]))),
            )
        )
    return rows
