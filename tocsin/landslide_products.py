"""Landslide products: one pass over strips of the mask, then cells; every file of a scene appears or none."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tocsin.areas import ClassAreas
from tocsin.chips import PROBABILITY_NODATA, PROBABILITY_SCALE, Strip
from tocsin.class_products import ClassProducts
from tocsin.exclusion import blocked_by
from tocsin.features import FeatureUnits, FeatureWriter
from tocsin.grid import Grid, Window
from tocsin.hazards.classes import decide
from tocsin.hazards.landslide import CLASSES, LANDSLIDE_CLASSES
from tocsin.landslide_cells import CellGround, Cells, ChipAnswers, decided
from tocsin.landslide_quicklook import write_landslide_quicklook
from tocsin.landslide_request import (
    CellProperties,
    LandslideRequest,
    cell_probability_spec,
    density_spec,
    exclusion_of,
    found_warnings,
    item_facts,
    mask_spec,
    orbit_pass_text,
    picture_facts,
    summary_of,
    valid_fraction,
)
from tocsin.polygons import PixelPolygon
from tocsin.product_request import ModelFacts, class_spec, product_tags
from tocsin.result import LandslideSummary, ProductName, Provenance, ResultWarning
from tocsin.thumbnail import Backdrop

__all__ = ["LandslideOutcome", "LandslideProducts", "LandslideRequest", "ModelFacts"]

_UNIT_KM2: Final = 1e-10
"""Unit of a cell's area in its polygon, km2."""
_CORNERS: Final = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=np.int64)
"""Row and column of a cell's corners, counter-clockwise with north up."""


@dataclass(frozen=True, slots=True)
class LandslideOutcome:
    """What was written."""

    products: dict[ProductName, str]
    summary: LandslideSummary
    valid_fraction: float
    warnings: tuple[ResultWarning, ...]


class LandslideProducts(ClassProducts[ClassAreas]):
    """Writes the products of one scene, with the life cycle of `ClassProducts`.

    Classes are those of cells and are not sieved; what is counted and pictured pixel by pixel is the mask.
    """

    def __init__(self, request: LandslideRequest) -> None:
        super().__init__(request, ClassAreas(request.grid, tuple(CLASSES)), LANDSLIDE_CLASSES)
        self._request = request
        self._backdrop = Backdrop()
        self._ground = CellGround(request.grid, request.cells)

    def add_backdrop(self, grid: Grid, window: Window, vh_db: npt.NDArray[np.float32]) -> None:
        """Show VH of a window that was read anyway behind the quicklook: from one thread, in any order.

        Parameters
        ----------
        grid : Grid
            The grid that `window` refers to, always the same.
        window : Window
            Where `vh_db` lies; may reach outside.
        vh_db : numpy.ndarray
            float32 [height, width], dB, NaN = no data. Decimated at once.
        """
        self._backdrop.add(grid, window, vh_db)

    def consume(self, strips: Iterable[Strip]) -> None:
        """Take every strip of the mask in ascending order, without gaps, on the request's grid."""
        request, files = self._request, self._files
        masks = files.raster("mask", request.grid, mask_spec(request))
        excluded, exclusion = exclusion_of(request), None
        if excluded:
            spec = excluded.spec(product_tags("landslide", request), orbit_pass_text(request))
            exclusion = files.raster("exclusion", request.grid, spec)
        for strip in strips:
            window = Window(strip.row, 0, len(strip.probability), request.grid.width)
            probability = strip.probability
            if request.aoi is not None:
                probability = np.where(request.aoi.read(window)[0] > 0, probability, np.uint16(PROBABILITY_NODATA))
            blocked = None
            if exclusion is not None:
                bits = excluded.bits(window)
                exclusion.write_rows(strip.row, bits)
                blocked = blocked_by(bits)
            codes = decide(probability, request.threshold, blocked)
            self._tally.add(codes, self._tally.weights(strip.row, len(codes)))
            self._picture.add(strip.row, codes)
            self._ground.add(strip.row, codes)
            if blocked is not None:
                # The mask has no class beside it: what radar cannot judge must not read as quiet.
                probability = np.where(blocked, np.uint16(PROBABILITY_NODATA), probability)
            masks.write_rows(strip.row, probability)

    def commit(
        self, answers: ChipAnswers, provenance: Provenance, warnings: tuple[ResultWarning, ...] = ()
    ) -> LandslideOutcome:
        """Decide the cells, finish all files and rename them, after `consume`.

        Parameters
        ----------
        answers : ChipAnswers
            Of all chips.
        provenance : Provenance
            Goes into the item.
        warnings : tuple of ResultWarning
            What was known before; returned together with what was found here.
        """
        from tocsin.stac import write_item

        request, files = self._request, self._files
        cells = decided(answers, self._ground, request.threshold)
        summary, share = summary_of(request, cells), valid_fraction(self._tally)
        thin = int(np.count_nonzero(answers.thin() & (cells.observed_km2 > 0)))
        warnings = (*warnings, *found_warnings(request, cells, share, thin))
        outcome = (summary, provenance, warnings)
        self._write_rasters(cells)
        with files.finishing():
            facts = picture_facts(request, cells, self._tally, outcome)
            write_landslide_quicklook(files.working("quicklook"), facts, self._picture.shares(), self._backdrop.mean())
            self._write_polygons(cells)
            write_item(files.working("item"), item_facts(request, files.names, outcome))
        return LandslideOutcome(files.commit(), summary, share, warnings)

    def _write_rasters(self, cells: Cells) -> None:
        """Write the rasters of cells: they are small."""
        request, files = self._request, self._files
        spec = class_spec("landslide", request, CLASSES, sieved=False)
        files.raster("class", request.cells, spec).write_rows(0, cells.codes)
        probability = files.raster("probability", request.cells, cell_probability_spec(request))
        probability.write_rows(0, cells.any_probability)
        files.raster("density", request.cells, density_spec(request)).write_rows(0, cells.density_per_km2)

    def _write_polygons(self, cells: Cells) -> None:
        """Write each cell with landslides as a polygon, the worst first."""
        files, grid = self._files, self._request.cells
        geopackage = files.working("geopackage") if self._request.gpkg else None
        units = FeatureUnits(_UNIT_KM2, PROBABILITY_SCALE)
        names = {code: CLASSES[code].name for code in LANDSLIDE_CLASSES}
        more = CellProperties(cells)
        with FeatureWriter(files.working("polygons"), grid, units, names, geopackage, more) as features:
            areas = np.broadcast_to(grid.pixel_area_km2(0, grid.height), grid.shape)
            for index in cells.ranked().tolist():
                place = divmod(index, grid.width)
                features.add(
                    PixelPolygon(
                        code=int(cells.codes[place]),
                        first=index,
                        pixels=1,
                        weight=round(float(areas[place]) / _UNIT_KM2),
                        total=int(cells.any_probability[place]),
                        rings=[_CORNERS + place],
                    )
                )
            features.close()
