"""Anomaly per volcano: four distances, two real series, injected sources, beside scores that need no network.

    TOCSIN_DATA=DATA python benchmarks/anomaly.py [--seeds N] [--variants]

Prints tables for docs/accuracy.md. Events: the Erta Ale intrusion, and simulated sources (Mogi, dykes, ...) added to
later epochs of both series. All other choices are the defaults of `tocsin anomaly fit`.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export.anomaly.encoder import cut_encoder, running
from tocsin.anomaly.evaluation import auroc, baseline_scores
from tocsin.anomaly.fitting import (
    Encode,
    Fitted,
    draw_channels,
    embed,
    hold_out,
    measure_of,
    score_distances,
)
from tocsin.anomaly.gaussian import distances_from
from tocsin.anomaly.geometry import cell_shares, geometry_of
from tocsin.anomaly.preparation import fit_preparation, prepare
from tocsin.anomaly.settings import FitSettings
from tocsin.phase import RAD_PER_METRE
from tocsin.repository import load_model
from tocsin.series import read_series
from tocsin.simulate import InterferogramSettings, NumpyRandom, interferogram

METHODS: Final = ("padim", "wmaha", "nlml", "wnlml")
PEAKS_M: Final = (0.03, 0.06, 0.12)
SOURCES: Final = 30
PUBLISHED: Final = {
    "padim": "0.96 / 0.90 / 0.37 / 0.88, 9",
    "wmaha": "0.95 / 0.91 / 0.69 / 0.96, 9",
    "nlml": "0.97 / 0.92 / 0.44 / 0.89, 7",
    "wnlml": "0.97 / 0.93 / 0.65 / 0.97, 8",
}


@dataclass(frozen=True)
class Case:
    """One series, fitted up to a day.

    Attributes
    ----------
    name
        Of the volcano.
    motion
        float32 [epoch, row, col], m.
    dates
        Of the epochs.
    until
        Last day fitted.
    event
        Known event, or None.
    """

    name: str
    motion: NDArray[np.float32]
    dates: tuple[date, ...]
    until: date
    event: date | None


@dataclass(frozen=True)
class Figures:
    """Event's AUROC and rank (None without one), false alarms of later epochs, AUROC of injected events by peak."""

    event: float | None
    rank: int | None
    alarms: int | None
    later: int
    injected: tuple[float, ...]

    def cells(self) -> str:
        """Return the cells of a table's row."""
        event = "- | -" if self.event is None else f"{self.event:.3f} | {self.rank}"
        alarms = "- " if self.alarms is None else f"{self.alarms} of {self.later}"
        return f"{event} | {alarms} | " + " | ".join(f"{value:.3f}" for value in self.injected)


def sources(shape: tuple[int, ...], seed: int) -> list[NDArray[np.float64]]:
    """Return motion of simulated sources, each with a peak of 1 m along the line of sight."""
    found = []
    for draw in range(SOURCES):
        settings = InterferogramSettings(deforming_share=1.0, pixel_m=(110.0, 111.0))
        drawn = interferogram(NumpyRandom(1000 * seed + draw), shape, settings)
        metres = np.asarray(drawn.deformation_rad, dtype=np.float64) / RAD_PER_METRE
        found.append(metres / np.abs(metres).max())
    return found


def measure(case: Case, encode: Encode, settings: FitSettings, seeds: int) -> dict[str, Figures]:
    """Return figures by score name."""
    days = np.array(case.dates)
    fitted_at = np.flatnonzero(days <= case.until)
    later = np.flatnonzero(days > case.until)
    quiet = later[days[later] != case.event] if case.event else later
    # Hosts are spread over the later half: nothing of the known event's aftermath.
    hosts = np.linspace(len(days) // 3, len(days) - 1, SOURCES).round().astype(int)
    shapes = [sources(case.motion.shape[1:], seed + 5) for seed in range(seeds)]
    added = [
        case.motion[host] + np.float32(peak) * shape
        for drawn in shapes
        for peak in PEAKS_M
        for host, shape in zip(hosts, drawn, strict=True)
    ]
    motion = np.concatenate([case.motion, np.array(added, dtype=np.float32)])
    scores, thresholds = model_scores(motion, fitted_at, encode, settings)
    scores |= baseline_scores(motion, fitted_at)
    figures = {}
    for name, values in scores.items():
        event = rank = None
        if case.event:
            own = values[case.dates.index(case.event)]
            event, rank = auroc(own, values[quiet]), int((values[quiet] > own).sum()) + 1
        late = quiet[quiet >= hosts[0]]
        parts = values[len(days) :].reshape(seeds, len(PEAKS_M), SOURCES)
        injected = tuple(
            float(np.mean([auroc(each, values[late]) for each in parts[:, at].ravel()])) for at in range(len(PEAKS_M))
        )
        alarms = int((values[quiet] > thresholds[name]).sum()) if name in thresholds else None
        figures[name] = Figures(event, rank, alarms, len(quiet), injected)
    return figures


def model_scores(
    motion: NDArray[np.float32], fitted_at: NDArray[np.int64], encode: Encode, settings: FitSettings
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Return the scores of all methods, and their thresholds, from one pass of the encoder."""
    normal = motion[fitted_at]
    preparation = fit_preparation(
        normal, geometry_of((motion.shape[1], motion.shape[2])), settings.scaling, settings.scale_quantile
    )
    cells = np.flatnonzero(cell_shares(preparation.observable_chip[None])[0] >= 0.5)
    sample = encode(prepare(normal[:1], preparation).phase)
    available = {name: values.shape[1] for name, values in sample.items()}
    empty = np.zeros(0)
    fitted = Fitted(settings, preparation, draw_channels(available, settings), cells, empty, empty, empty)
    embeddings, prepared = embed(motion, encode, fitted)
    scores, thresholds = {}, {}
    for method in METHODS:
        chosen = settings.model_copy(update={"method": method})
        one = replace(fitted, settings=chosen, channels=draw_channels(available, chosen))
        found = distances_from(embeddings[fitted_at], embeddings, measure_of(one))
        scores[method] = score_distances(one, found, prepared).score
        held_out = hold_out(one, embeddings[fitted_at], prepared.part(fitted_at))
        thresholds[method] = float(np.quantile(held_out, settings.threshold_quantile))
    return scores, thresholds


def cases(folder: Path) -> tuple[Case, Case]:
    """Return the two real series."""
    erta_ale = read_series(folder / "licsalert_erta_ale_014A_07688_131313.npz")
    lengai = read_series(folder / "licsalert_ol_doinyo_lengai_130A_09212_131313.npz")
    return (
        Case("Erta Ale", erta_ale.increments_m, erta_ale.dates, date(2016, 12, 31), date(2017, 2, 4)),
        Case("Ol Doinyo Lengai", lengai.increments_m, lengai.dates, date(2017, 4, 30), None),
    )


def variants(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield the case changed in ways that should not matter."""
    yield "fitted until half a year earlier", replace(case, until=case.until - timedelta(days=183))
    yield "mirrored", replace(case, motion=case.motion[:, :, ::-1].copy())
    yield "upside down", replace(case, motion=case.motion[:, ::-1].copy())
    yield "cropped by 15 px", replace(case, motion=case.motion[:, 15:-15, 15:-15].copy())
    yield "sign turned", replace(case, motion=-case.motion)


def print_table(title: str, figures: dict[str, Figures]) -> None:
    """Print one table in Markdown."""
    heads = " | ".join(f"injected {100 * peak:g} cm" for peak in PEAKS_M)
    print(f"\n{title}\n\n| score | event AUROC | rank | false alarms | {heads} |\n" + "|---" * (4 + len(PEAKS_M)) + "|")
    for name, each in figures.items():
        print(f"| {name} | {each.cells()} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="sets of injected sources")
    parser.add_argument("--variants", action="store_true", help="also flips, crops, other last days")
    parser.add_argument("--layers", default="1,2,3")
    parser.add_argument("--scaling", default="scaled")
    given = parser.parse_args()
    layers = tuple(int(layer) for layer in given.layers.split(","))
    settings = FitSettings(
        layers=layers, layer_weights=tuple(map(float, range(1, len(layers) + 1))), scaling=given.scaling
    )
    model = load_model("volcano", given.model_repository)
    print(f"encoder of {model.manifest.name} {model.manifest.version}, sha256 {model.sha256}; {settings!r}")
    print("published (Taal / Agung / Casiri / Lamongan AUROC, Lawu false positives; other series):")
    for method in METHODS:
        print(f"  {method}: {PUBLISHED[method]}")
    with running(cut_encoder(model.path, layers)) as encode:
        for case in cases(Path(os.environ["TOCSIN_DATA"]) / "licsar_series"):
            print_table(f"{case.name}, fitted until {case.until}", measure(case, encode, settings, given.seeds))
            for name, changed in variants(case) if given.variants else ():
                print_table(f"{case.name}, {name}", measure(changed, encode, settings, 1))


if __name__ == "__main__":
    main()
