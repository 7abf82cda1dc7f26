"""Entries of a batch whose findings are known, and a folder to write outputs into."""

import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from serving.batch.entry import Entry, SceneError
from tocsin.result import (
    FloodSummary,
    LandslideSummary,
    Provenance,
    Result,
    ResultWarning,
    SceneFacts,
    VolcanoSummary,
)

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ACQUIRED = datetime(2025, 12, 31, 6, 0, tzinfo=UTC)
SHA = "0" * 64


class Folder:
    """A target on this machine."""

    def __init__(self, path):
        self.path = Path(path)

    @contextmanager
    def open_whole(self, name):
        """Write aside and rename."""
        final = self.path / name
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = final.with_name(f".{final.name}.part")
        try:
            with aside.open("wb") as file:
                yield file
            os.replace(aside, final)  # noqa: PTH105 - as the contract says it
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def local(self, name):
        """Lend the file itself."""
        path = self.path / name
        path.stat()
        yield path

    @property
    def names(self):
        """Everything that lies there."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())


def flood(*, flood_km2=None, water_km2=2.0, observed_km2=10.0):
    """Return the summary of a flood map."""
    permanent = None if flood_km2 is None else max(0.0, water_km2 - flood_km2)
    return FloodSummary(
        observed_km2=observed_km2, water_km2=water_km2, flood_km2=flood_km2, permanent_km2=permanent, polygons=1
    )


def landslide(*, slid_km2=0.5, expected=10.0, low=3, high=1, observed_km2=10.0):
    """Return the summary of a landslide map."""
    return LandslideSummary(
        observed_km2=observed_km2,
        landslide_km2=slid_km2,
        expected_landslides=expected,
        expected_landslides_interval=(expected / 2, expected * 2),
        cells=24,
        low_cells=low,
        high_cells=high,
        days_between=12.0,
    )


def volcano(probability, *, deforming_km2=1.0, label=None):
    """Return the summary of an interferogram."""
    label = label or ("deformation" if probability >= 0.5 else "stable")
    deforms = label == "deformation"
    return VolcanoSummary(
        observed_km2=10.0,
        deforming_km2=deforming_km2 if deforms else 0.0,
        deformation_probability=probability,
        label=label,
        source="mogi" if deforms else None,
        source_probability=0.8 if deforms else None,
        detections=1 if deforms and deforming_km2 else 0,
    )


def done(scene_id, summary, **more):
    """Return an entry of a scene that was scored; `products`, `crs`, `bounds`, `shape`, `acquired` and more by name."""
    hazard = {FloodSummary: "flood", LandslideSummary: "landslide", VolcanoSummary: "volcano"}[type(summary)]
    folder = f"{hazard}/{scene_id}"
    products = {
        "class": f"{folder}/{scene_id}_class.tif",
        "quicklook": f"{folder}/{scene_id}_quicklook.png",
        "item": f"{folder}/{scene_id}_item.json",
    }
    scene = SceneFacts(
        id=scene_id,
        crs=more.get("crs", "EPSG:32630"),
        shape=more.get("shape", (300, 400)),
        bounds=more.get("bounds", (5e5, 4.197e6, 5.04e5, 4.2e6)),
        valid_fraction=more.get("seen", 1.0),
        acquired=more.get("acquired", ACQUIRED),
    )
    provenance = Provenance(
        model=hazard,
        version="0.1.0",
        sha256=SHA,
        precision="fp32",
        runtime="onnx",
        device="cpu",
        threshold=0.5,
        tocsin="0.1.0",
        inputs=(),
        resampled=None,
        started=STARTED,
        seconds=1.0,
    )
    result = Result(
        hazard=hazard,
        status=more.get("status", "ok"),
        scene=scene,
        products=more.get("products", products),
        summary=summary,
        warnings=tuple(ResultWarning(code="a", message=text) for text in more.get("warnings", ())),
        provenance=provenance,
    )
    priority = more.get("priority", 0.0)
    return Entry(id=scene_id, hazard=hazard, key=SHA, state="done", result=result, seconds=1.25, priority=priority)


def failed(scene_id, code="truncated", message="given half of it", hazard="flood"):
    """Return an entry of a scene that failed."""
    error = SceneError(code=code, message=message)
    return Entry(id=scene_id, hazard=hazard, key=None, state="failed", result=None, error=error, seconds=0.5)


HOSTILE = "</script><img src=x onerror=window.pwned=1>\"'&{{7*7}}"
"""A name that would be markup."""


def one_of_each():
    """Return a scene of each kind, and one whose name would be markup."""
    return [
        done("dry", flood(flood_km2=0), bounds=(5e5, 4.0e6, 5.1e5, 4.01e6), acquired=None),
        failed("broken", code="truncated", message="given half of it; expected <all>"),
        done(HOSTILE, flood(flood_km2=3, water_km2=4), warnings=["assumed <b>ascending</b>"]),
        done("slides", landslide(), bounds=(5e5, 4.3e6, 5.1e5, 4.31e6)),
        done("picture", volcano(0.9), crs="", products={}),
        done("blind", flood(flood_km2=0, water_km2=0), status="empty", seen=0.0),
    ]
