"""Ground by class in zones, pixel by pixel, each place once.

Scenes are counted on their own grid, with the share of a pixel that lies in a zone (exactextract) times its true area.
Where scenes of one hazard overlap, the latest acquisition that observed a place counts there, and no other: an older
scene counts only where no later one saw the ground. A scene whose time is unknown is older than all others; equal times
are ordered by id. What is not observable or has no data is not observed.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from serving.batch.footprints import Footprint
from serving.batch.target import Target
from serving.batch.zone_files import Zones
from tocsin.errors import TocsinError
from tocsin.hazards.classes import NOT_OBSERVABLE, stored_threshold
from tocsin.result import Hazard, ProductName

if TYPE_CHECKING:
    from tocsin.grid import Grid, Window
    from tocsin.raster import Source

BLOCK: Final = 1024
"""Side of what is counted at once, pixels: bounds the memory, whatever the scene."""

_RASTERS: Final[dict[Hazard, tuple[ProductName, ...]]] = {
    "flood": ("class",),
    "landslide": ("mask", "class", "density"),
    "volcano": ("class", "probability"),
}
"""What is read of a scene; the first one has the scene's own grid."""
_OLDEST: Final = datetime.min.replace(tzinfo=UTC)

BoolArray = npt.NDArray[np.bool_]
AreaArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CountedScene:
    """What is needed of a scene.

    Attributes
    ----------
    hazard, id
        As in the journal.
    outline : Footprint
        Where it lies.
    acquired : datetime or None
        None when unknown.
    products : mapping
        Path of each raster, relative to the target.
    threshold : float
        Probability from which a pixel of the landslide mask counts.
    unplaced : bool
        Whether it is labelled deformation without a polygon.
    """

    hazard: Hazard
    id: str
    outline: Footprint
    acquired: datetime | None
    products: Mapping[ProductName, str]
    threshold: float
    unplaced: bool

    @property
    def age(self) -> tuple[float, str]:
        """Sorts the latest first."""
        return -(self.acquired or _OLDEST).timestamp(), self.id


@dataclass(slots=True)
class Counts:
    """What was counted.

    Attributes
    ----------
    sums : mapping
        For each hazard and zone the sums by name, km2 (`expected`: landslides), and the highest `probability`.
    unplaced : set of int
        Zones seen by a scene that is labelled deformation without a polygon.
    unread : list of str
        Scenes whose rasters could not be read; they count nowhere.
    """

    sums: dict[tuple[Hazard, int], dict[str, float]] = field(default_factory=dict)
    unplaced: set[int] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)


def count(scenes: Sequence[CountedScene], zones: Zones, target: Target) -> Counts:
    """Count the ground of every zone.

    Parameters
    ----------
    scenes
        Of all hazards, in any order.
    zones
        Where to count.
    target
        Where the rasters lie.
    """
    from shapely import STRtree
    from shapely.geometry import shape

    counts = Counts()
    near = STRtree(zones.outlines)
    for hazard in _RASTERS:
        latest = sorted((scene for scene in scenes if scene.hazard == hazard), key=lambda scene: scene.age)
        outlines = [shape(scene.outline.geometry) for scene in latest]
        tree = STRtree(outlines)
        for at, (scene, outline) in enumerate(zip(latest, outlines, strict=True)):
            wanted = sorted(near.query(outline, predicate="intersects").tolist())
            if not wanted:
                continue
            over = [other for other in sorted(tree.query(outline, predicate="intersects").tolist()) if other < at]
            try:
                found = _count_scene(scene, [latest[other] for other in over], (zones, wanted), target)
            except (OSError, TocsinError):
                counts.unread.append(f"{hazard}/{scene.id}")
                continue
            _merge(counts, scene, found)
    return counts


def _merge(counts: Counts, scene: CountedScene, found: dict[int, dict[str, float]]) -> None:
    for zone, values in found.items():
        _add(counts.sums.setdefault((scene.hazard, zone), defaultdict(float)), values)
        if scene.unplaced and values.get("observed"):
            counts.unplaced.add(zone)


def _add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        sums[name] = max(sums[name], value) if name == "probability" else sums[name] + value


class _Layers:
    """The rasters of one scene, on its own grid or seen on another one."""

    def __init__(self, stack: ExitStack, scene: CountedScene, target: Target, onto: "Grid | None" = None) -> None:
        from tocsin.raster import align, open_raster

        self._scene = scene
        self._sources: dict[ProductName, Source] = {}
        grid = onto
        for name in _RASTERS[scene.hazard]:
            if onto is not None and name in {"density", "probability"}:
                continue  # of a later scene only what it observed is asked
            raster = open_raster(stack.enter_context(target.local(scene.products[name])))
            stack.callback(raster.close)
            grid = grid or raster.grid
            self._sources[name] = raster if raster.grid == grid else align(raster, grid, "nearest")
        assert grid is not None, "every hazard has a raster"
        self.grid = grid

    def observed(self, window: "Window") -> BoolArray:
        """Whether each pixel of a window was seen and can be judged."""
        seen: BoolArray = self._sources["class"].read(window)[0] < NOT_OBSERVABLE
        if "mask" in self._sources:
            seen &= np.isfinite(self._sources["mask"].read(window)[0])
        return seen

    def measured(self, window: "Window", counted: BoolArray) -> dict[str, AreaArray]:
        """Return what is summed over each pixel: km2, landslides; and the probability, NaN where it does not count."""
        from tocsin.chips import PROBABILITY_SCALE
        from tocsin.hazards import flood, landslide, volcano

        km2 = np.where(counted, np.nan_to_num(self.grid.crop(window).pixel_area_km2(0, window.height)), 0.0)
        codes = self._sources["class"].read(window)[0]
        if self._scene.hazard == "flood":
            kinds = {"flood": flood.FLOOD, "permanent": flood.PERMANENT, "unsplit": flood.WATER}
            return {"observed": km2} | {name: np.where(codes == code, km2, 0.0) for name, code in kinds.items()}
        if self._scene.hazard == "volcano":
            probability = self._sources["probability"].read(window)[0].astype(np.float64)
            deforming = np.where(codes == volcano.DEFORMING, km2, 0.0)
            return {"observed": km2, "deforming": deforming, "probability": np.where(counted, probability, np.nan)}
        stored = np.rint(np.nan_to_num(self._sources["mask"].read(window)[0]) / PROBABILITY_SCALE)
        slid = (stored >= stored_threshold(self._scene.threshold)) & np.isin(codes, landslide.LANDSLIDE_CLASSES)
        density = np.nan_to_num(self._sources["density"].read(window)[0])
        return {"observed": km2, "slid": np.where(slid, km2, 0.0), "expected": density * km2}


def _count_scene(
    scene: CountedScene, later: Sequence[CountedScene], wanted: tuple[Zones, list[int]], target: Target
) -> dict[int, dict[str, float]]:
    """Return the sums of one scene by zone, without what later scenes observed."""
    found: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        layers = _Layers(stack, scene, target)
        opened: list[_Layers] = []
        for window, parts in _blocks(layers.grid, *wanted):
            counted = layers.observed(window)
            for number, other in enumerate(later):
                if not counted.any():
                    break
                if number == len(opened):
                    opened.append(_opened(stack, other, target, layers.grid))
                counted &= ~opened[number].observed(window)
            if counted.any():
                for zone, values in _sums(layers.grid.crop(window), layers.measured(window, counted), parts):
                    _add(found.setdefault(zone, defaultdict(float)), values)
    return found


def _opened(stack: ExitStack, scene: CountedScene, target: Target, grid: "Grid") -> Any:  # noqa: ANN401 - as `_Layers`
    """Open a later scene on the grid of an earlier one; one that cannot be read has seen nothing."""
    try:
        return _Layers(stack, scene, target, grid)
    except (OSError, TocsinError):
        return _Blind()


class _Blind:
    """A scene that cannot be read: it is told of where it is counted itself."""

    def observed(self, window: "Window") -> BoolArray:
        return np.zeros(window.shape, dtype=bool)


def _blocks(grid: "Grid", zones: Zones, wanted: list[int]) -> Iterator[tuple["Window", dict[int, Any]]]:
    """Yield windows of a grid with the parts of zones in them."""
    from shapely import box, intersection

    from tocsin.grid import Window
    from tocsin.raster.rasterised import on_grid

    shapes = {}
    for zone in wanted:
        moved = on_grid(zones.shapes[zone : zone + 1], zones.crs, grid)
        if len(moved):
            shapes[zone] = moved[0]
    for row in range(0, grid.height, BLOCK):
        for col in range(0, grid.width, BLOCK):
            window = Window(row, col, min(BLOCK, grid.height - row), min(BLOCK, grid.width - col))
            frame = box(*grid.crop(window).bounds)
            cut = {zone: _polygons(intersection(shape, frame)) for zone, shape in shapes.items()}
            parts = {zone: part for zone, part in cut.items() if not part.is_empty}
            if parts:
                yield window, parts


def _polygons(geometry: Any) -> Any:  # noqa: ANN401 - shapely geometries
    """Return the polygons of a geometry: a cut may leave points and lines beside them."""
    from shapely import get_parts, get_type_id, multipolygons

    parts = get_parts([geometry])
    parts = get_parts(parts)
    return multipolygons(parts[get_type_id(parts) == 3])


def _sums(
    grid: "Grid", measured: Mapping[str, AreaArray], parts: Mapping[int, Any]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the sum of each measure over each part, pixels at its edge by their share."""
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource
    from shapely.geometry import mapping

    sources = [NumPyRasterSource(values, *grid.bounds, name=name) for name, values in measured.items()]
    features = [
        {"type": "Feature", "properties": {"zone": zone}, "geometry": mapping(part)} for zone, part in parts.items()
    ]
    # With one source exactextract leaves its name out of the answer; here there are always several.
    for feature in exact_extract(sources, features, ["sum", "max"], include_cols=["zone"]):
        known = feature["properties"]
        values = {name: known[f"{name}_{'max' if name == 'probability' else 'sum'}"] for name in measured}
        yield known["zone"], {name: float(value) for name, value in values.items() if value is not None}
