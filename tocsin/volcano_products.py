"""Volcano products: one pass over strips of probability writes every file of an interferogram, all or none."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

import numpy as np
import numpy.typing as npt

from tocsin.areas import ClassAreas
from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE, Strip
from tocsin.class_products import ClassProducts, ClassRows
from tocsin.features import FeatureUnits, FeatureWriter
from tocsin.grid import Grid, Window
from tocsin.hazards.volcano import CLASSES, DEFORMING_CLASSES, NO_DATA, NOT_OBSERVABLE, ChipVerdict, decide
from tocsin.polygon_spool import PolygonSpool
from tocsin.product_request import ModelFacts, class_spec, probability_spec
from tocsin.result import ProductName, Provenance, ResultWarning, VolcanoSummary
from tocsin.thumbnail import PhaseBackdrop
from tocsin.volcano_quicklook import Detection, write_volcano_quicklook
from tocsin.volcano_request import (
    Verdicts,
    VolcanoRequest,
    found_warnings,
    item_facts,
    picture_facts,
    valid_fraction,
)

__all__ = ["ModelFacts", "VolcanoOutcome", "VolcanoProducts", "VolcanoRequest"]

_NAMED: Final = 5
"""Detections that the picture names, the largest ones."""


@dataclass(frozen=True, slots=True)
class VolcanoOutcome:
    """What was written."""

    products: dict[ProductName, str]
    summary: VolcanoSummary
    valid_fraction: float
    warnings: tuple[ResultWarning, ...]


class VolcanoProducts(ClassProducts[ClassAreas]):
    """Writes the products of one interferogram, with the life cycle of `ClassProducts`.

    On a grid without a CRS (a picture of phase) there are no polygons, no item and no areas.
    """

    def __init__(self, request: VolcanoRequest) -> None:
        super().__init__(request, ClassAreas(request.grid, tuple(CLASSES)), DEFORMING_CLASSES)
        self._request = request
        self._backdrop = PhaseBackdrop()
        self._spool: PolygonSpool | None = None

    def add_backdrop(self, grid: Grid, window: Window, phase_rad: npt.NDArray[np.float32]) -> None:
        """Show the phase of a window that was read anyway in the quicklook: from one thread, in any order.

        Parameters
        ----------
        grid : Grid
            The grid that `window` refers to, always the same.
        window : Window
            Where `phase_rad` lies; may reach outside.
        phase_rad : numpy.ndarray
            float32 [height, width], wrapped, rad, NaN = no data. Decimated at once, as unit vectors.
        """
        self._backdrop.add(grid, window, phase_rad)

    def consume(self, strips: Iterable[Strip]) -> None:
        """Take every strip of the scene in ascending order, without gaps, on the request's grid."""
        spec = class_spec("volcano", self._request, CLASSES)
        with PolygonSpool(self._files.scratch("spool")) as spool:
            self._spool = spool
            self.map_rows(self._decided(strips), spec, spool)

    def _decided(self, strips: Iterable[Strip]) -> Iterator[ClassRows]:
        """Write the probability, and decide classes before the sieve."""
        request = self._request
        spec = probability_spec("volcano", request, "probability of deformation")
        probabilities = self._files.raster("probability", request.grid, spec)
        for strip in strips:
            window = Window(strip.row, 0, len(strip.probability), request.grid.width)
            inside = None if request.aoi is None else request.aoi.read(window)[0] > 0
            probability = strip.probability
            if inside is not None:
                probability = np.where(inside, probability, np.uint16(PROBABILITY_NODATA))
            probabilities.write_rows(strip.row, probability)
            codes = decide(probability, request.threshold)
            if request.unobservable is not None:
                # The model was not shown these pixels, so that they have no probability: yet they were seen.
                codes[request.unobservable.read(window)[0] > 0] = NOT_OBSERVABLE
                if inside is not None:
                    codes[~inside] = NO_DATA
            yield ClassRows(strip.row, codes, probability)

    def commit(
        self, provenance: Provenance, warnings: tuple[ResultWarning, ...] = (), verdicts: Sequence[ChipVerdict] = ()
    ) -> VolcanoOutcome:
        """Finish all files and rename them, after `consume`.

        Parameters
        ----------
        provenance : Provenance
            Goes into the item.
        warnings : tuple of ResultWarning
            What was known before; returned together with what was found here.
        verdicts : sequence of ChipVerdict
            Of every chip at every scale, windows on the scene's own grid.
        """
        from tocsin.stac import write_item

        request, files = self._request, self._files
        assert self._spool is not None, "commit comes after consume"
        said = Verdicts(verdicts, request.sources)
        summary = said.summary(self._tally, self._spool.count, request.threshold)
        warnings = (*warnings, *found_warnings(self._tally, summary))
        outcome = (summary, provenance, warnings)
        with files.finishing():
            facts = picture_facts(request, self._tally, self._named(self._spool, said), outcome)
            write_volcano_quicklook(files.working("quicklook"), facts, self._picture.shares(), self._backdrop.mean())
            if request.grid.crs:
                self._write_polygons(self._spool, said)
                write_item(files.working("item"), item_facts(request, files.names, outcome))
        return VolcanoOutcome(files.commit(), summary, valid_fraction(self._tally), warnings)

    def _named(self, spool: PolygonSpool, said: Verdicts) -> list[Detection]:
        """Return the largest detections, for the picture."""
        found = []
        for polygon in nlargest(_NAMED, spool, key=lambda polygon: (polygon.weight, -polygon.first)):
            ring, known = polygon.rings[0], said.of(polygon)
            (top, left), (bottom, right) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
            km2 = polygon.weight * self._tally.unit_km2
            box = Window(top, left, bottom - top, right - left)
            found.append(Detection(box, known["source"], known["chip_probability"], km2))
        return found

    def _write_polygons(self, spool: PolygonSpool, said: Verdicts) -> None:
        files, grid = self._files, self._request.grid
        geopackage = files.working("geopackage") if self._request.gpkg else None
        units = FeatureUnits(self._tally.unit_km2, PROBABILITY_SCALE)
        names = {code: CLASSES[code].name for code in DEFORMING_CLASSES}
        with FeatureWriter(files.working("polygons"), grid, units, names, geopackage, said) as features:
            for polygon in spool:
                features.add(polygon)
            features.close()
