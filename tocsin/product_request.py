"""What the products of every hazard are asked to be, and what their rasters say about themselves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE
from tocsin.grid import Grid
from tocsin.hazards.classes import NO_DATA, ClassFacts
from tocsin.raster import RasterSpec, Source
from tocsin.result import Hazard, Provenance
from tocsin.sieve import SIEVE_PX


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the GeoTIFF tags say about the model: no times, no paths."""

    model: str
    version: str
    sha256: str
    precision: str
    licence: str
    tocsin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRequest:
    """What to write and where.

    Every `Source` of a request lies on `grid` (use `tocsin.raster.align` or `rasterise`), one band; who opened it
    closes it.
    """

    out: Path
    scene_id: str
    grid: Grid
    threshold: float
    facts: ModelFacts
    aoi: Source | None = None
    overwrite: bool = False
    gpkg: bool = False


def product_tags(hazard: Hazard, request: ProductRequest) -> dict[str, str]:
    """Tags of every raster product."""
    facts = request.facts
    return {
        "TOCSIN_HAZARD": hazard,
        "TOCSIN_VERSION": facts.tocsin,
        "TOCSIN_MODEL": facts.model,
        "TOCSIN_MODEL_VERSION": facts.version,
        "TOCSIN_MODEL_SHA256": facts.sha256,
        "TOCSIN_MODEL_PRECISION": facts.precision,
        "TOCSIN_MODEL_LICENCE": facts.licence,
        "TOCSIN_THRESHOLD": f"{request.threshold:g}",
    }


def class_spec(
    hazard: Hazard, request: ProductRequest, classes: Mapping[int, ClassFacts], *, sieved: bool = True
) -> RasterSpec:
    """Describe ``*_class.tif`` with its codes."""
    names = {str(code): facts.name for code, facts in classes.items()}
    sieve = {"TOCSIN_SIEVE_PX": str(SIEVE_PX)} if sieved else {}
    if request.grid.crs and sieved:
        size_x, size_y = request.grid.pixel_size_m()
        sieve["TOCSIN_SIEVE_KM2"] = f"{SIEVE_PX * size_x * size_y / 1e6:.3g}"
    return RasterSpec(
        dtype="uint8",
        nodata=NO_DATA,
        description=f"{hazard} class",
        tags=product_tags(hazard, request) | sieve | {"TOCSIN_CLASSES": json.dumps(names)},
        overview="mode",
        colormap={code: (*facts.colour, 0 if code == NO_DATA else 255) for code, facts in classes.items()},
    )


def probability_spec(hazard: Hazard, request: ProductRequest, description: str) -> RasterSpec:
    """Describe ``*_probability.tif``."""
    return RasterSpec(
        dtype="uint16",
        nodata=PROBABILITY_NODATA,
        scale=PROBABILITY_SCALE,
        description=description,
        tags=product_tags(hazard, request),
        overview="average",
    )


def method_text(provenance: Provenance, treatment: str = f"patches under {SIEVE_PX} px removed") -> str:
    """Say in a line how a map was made; `treatment` is what was done to classes."""
    return (
        f"Model {provenance.model} {provenance.version}, {provenance.precision}, {provenance.runtime} on "
        f"{provenance.device}, threshold {provenance.threshold:g}, {treatment}, "
        f"tocsin {provenance.tocsin}"
    )
