"""Flood products: one pass over strips of probability writes every file of a scene, and all appear or none."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE, Strip
from tocsin.class_products import ClassProducts, ClassRows
from tocsin.exclusion import blocked_by
from tocsin.features import FeatureUnits, FeatureWriter
from tocsin.flood_request import (
    FloodRequest,
    exclusion_of,
    found_warnings,
    item_facts,
    orbit_pass_text,
    quicklook_facts,
)
from tocsin.grid import Grid, Window
from tocsin.hazards.flood import CLASSES, WATER_CLASSES, AreaTally, decide, permanence, split
from tocsin.product_request import ModelFacts, class_spec, probability_spec, product_tags
from tocsin.result import FloodSummary, ProductName, Provenance, ResultWarning
from tocsin.terrain import NOT_JUDGED
from tocsin.thumbnail import Backdrop

__all__ = ["FloodOutcome", "FloodProducts", "FloodRequest", "ModelFacts"]


@dataclass(frozen=True, slots=True)
class FloodOutcome:
    """What was written."""

    products: dict[ProductName, str]
    summary: FloodSummary
    valid_fraction: float
    warnings: tuple[ResultWarning, ...]


class FloodProducts(ClassProducts[AreaTally]):
    """Writes the products of one scene.

    ``FloodProducts(request)`` refuses existing products at once (`ProductExistsError`) and makes no file; `consume`
    works strip by strip; `commit` renames everything into place, ``*_class.tif`` last; `discard` (or leaving the
    context without a commit) leaves nothing behind.
    """

    def __init__(self, request: FloodRequest) -> None:
        super().__init__(request, AreaTally(request.grid), WATER_CLASSES)
        self._request = request
        self._backdrop = Backdrop()
        self._judged = self._valid = 0
        self._count = 0

    @property
    def _is_split(self) -> bool:
        return self._request.pre or self._request.reference_water is not None

    @property
    def _judged_share(self) -> float | None:
        """Share of the valid pixels that the DEM has a height for; None without a DEM or a valid pixel."""
        return self._judged / self._valid if self._valid else None

    def add_backdrop(self, grid: Grid, window: Window, vv_db: npt.NDArray[np.float32]) -> None:
        """Show VV of a window that was read anyway behind the quicklook: from one thread, in any order.

        Parameters
        ----------
        grid : Grid
            The grid that `window` refers to, always the same.
        window : Window
            Where `vv_db` lies; may reach outside.
        vv_db : numpy.ndarray
            float32 [height, width], dB, NaN = no data. Decimated at once.
        """
        self._backdrop.add(grid, window, vv_db)

    def consume(self, strips: Iterable[Strip]) -> None:
        """Take every strip of the scene in ascending order, without gaps, on the request's grid."""
        request, files = self._request, self._files
        geopackage = files.working("geopackage") if request.gpkg else None
        units = FeatureUnits(self._tally.unit_km2, PROBABILITY_SCALE)
        names = {code: CLASSES[code].name for code in WATER_CLASSES}
        features = FeatureWriter(files.working("polygons"), request.grid, units, names, geopackage)
        with features:
            spec = class_spec("flood", request, CLASSES)
            self.map_rows(self._decided(strips), spec, features, split if self._is_split else None)
            features.close()
        self._count = features.count

    def _decided(self, strips: Iterable[Strip]) -> Iterator[ClassRows]:
        """Write probability and exclusion, and decide classes before the sieve."""
        request, files = self._request, self._files
        probabilities = files.raster(
            "probability", request.grid, probability_spec("flood", request, "probability of water")
        )
        excluded, exclusion = exclusion_of(request), None
        if excluded:
            spec = excluded.spec(product_tags("flood", request), orbit_pass_text(request))
            exclusion = files.raster("exclusion", request.grid, spec)
        for strip in strips:
            window = Window(strip.row, 0, len(strip.probability), request.grid.width)
            probability = strip.probability
            if request.aoi is not None:
                probability = np.where(request.aoi.read(window)[0] > 0, probability, np.uint16(PROBABILITY_NODATA))
            probabilities.write_rows(strip.row, probability)
            blocked = None
            if exclusion is not None:
                bits = excluded.of_terrain(window)
                if request.dem is not None:
                    valid = probability != PROBABILITY_NODATA
                    self._valid += int(np.count_nonzero(valid))
                    self._judged += int(np.count_nonzero(valid & (bits != NOT_JUDGED)))
                bits = excluded.with_user(window, bits)
                exclusion.write_rows(strip.row, bits)
                blocked = blocked_by(bits)
            reference = None if request.reference_water is None else request.reference_water.read(window)[0]
            permanent = permanence(strip.pre_probability, reference, request.threshold)
            yield ClassRows(strip.row, decide(probability, request.threshold, blocked), probability, permanent)

    def commit(self, provenance: Provenance, warnings: tuple[ResultWarning, ...] = ()) -> FloodOutcome:
        """Finish all files and rename them.

        Parameters
        ----------
        provenance : Provenance
            Goes into the item.
        warnings : tuple of ResultWarning
            What was known before; returned together with what was found here.
        """
        from tocsin.quicklook import write_quicklook
        from tocsin.stac import write_item

        summary = self._tally.summary(self._count, is_split=self._is_split)
        warnings = (*warnings, *found_warnings(self._request, self._tally, self._judged_share))
        with self._files.finishing():
            picture = quicklook_facts(self._request, self._tally, provenance, warnings)
            write_quicklook(self._files.working("quicklook"), picture, self._picture.shares(), self._backdrop.mean())
            item = self._files.working("item")
            write_item(item, item_facts(self._request, self._files.names, (summary, provenance, warnings)))
        return FloodOutcome(self._files.commit(), summary, self._tally.valid_fraction, warnings)
