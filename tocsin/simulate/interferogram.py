"""A Sentinel-1 interferogram over a volcano with a known answer.

Relief with cones, a source of deformation or none, turbulent and stratified delay, ramps, and decorrelation. Phase
grows with range (uplift is negative phase, see :mod:`tocsin.simulate.deformation`). Atmosphere and incoherent shares
are drawn alike with and without deformation, so that neither tells the answer; hard negatives hold concentric
stratified delay around a cone, which only looks like a source.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from tocsin.errors import GridMismatchError, UsageError
from tocsin.simulate.atmosphere import orbital_ramp, processing_step, stratified_delay, turbulent_delay
from tocsin.simulate.decorrelation import beyond_swath, draw_coherence, fringe_coherence
from tocsin.simulate.decorrelation import phase_noise as draw_noise
from tocsin.simulate.deformation import DeformationSource, LookGeometry
from tocsin.simulate.deforming import Scene, deform, log_number, shown
from tocsin.simulate.fields import Array, Namespace, RandomSource
from tocsin.simulate.interferogram_settings import InterferogramSettings
from tocsin.simulate.relief import Terrain, given_terrain, simulated_terrain
from tocsin.simulate.sources import SourceName

INCIDENCE_DEG: Final = (29.1, 46.0)
"""Incidence of Sentinel-1 IW, near to far range, deg (Sentinel-1 product definition)."""
HEADING_DEG: Final[dict[str, tuple[float, float]]] = {"ascending": (340.0, 350.0), "descending": (190.0, 200.0)}
"""Headings of Sentinel-1 between the equator and 60 degrees of latitude, deg clockwise from north."""

_SMALLEST = 16
# The float32 just below pi: no rounding carries a wrapped phase out of (-pi, pi].
_LARGEST_PHASE: Final = 3.1415925
# A hard negative shows at least so much delay from foot to summit, rad.
_CONE_CONTRAST_RAD: Final = 4.0


@dataclass(frozen=True)
class SimulatedInterferogram:
    """A simulated interferogram; arrays [H, W], of the namespace that drew them.

    Attributes
    ----------
    wrapped_rad
        float32 phase in (-pi, pi]; NaN where nothing was observed.
    unwrapped_rad
        float32 phase with all its cycles, noise included; NaN where nothing was observed.
    deformation_rad, delay_rad
        float32 phase of the deformation alone and of all delays (atmosphere, ramp, step); known at every pixel.
    mask
        bool: where the deformation exceeds ``mask_bound_rad``; known at every pixel.
    mask_bound_rad
        The bound of the mask, rad; infinite without deformation.
    coherence
        float32, 0 to 1; known at every pixel.
    dem, water
        float32 terrain height, m; bool sea and lakes.
    source_name, source
        Kind and parameters of the source, of the first where there are two of a kind, "none" and None without
        deformation; its plane's origin is the scene's centre, m east and north.
    look
        Viewing geometry.
    pixel_m
        Pixel spacing, m.
    hard_negative
        Whether the scene shows concentric delay around a cone and no deformation.
    """

    wrapped_rad: Array
    unwrapped_rad: Array
    deformation_rad: Array
    delay_rad: Array
    mask: Array
    mask_bound_rad: float
    coherence: Array
    dem: Array
    water: Array
    source_name: SourceName | Literal["none"]
    source: DeformationSource | None
    look: LookGeometry
    pixel_m: float
    hard_negative: bool

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters of the source by name, with their unit; empty without one."""
        source: Any = self.source
        return {} if source is None else dataclasses.asdict(source)


def interferogram(
    random: RandomSource,
    shape: tuple[int, int],
    settings: InterferogramSettings | None = None,
    dem: Array | None = None,
) -> SimulatedInterferogram:
    """Simulate one interferogram.

    Parameters
    ----------
    random
        Seeded draws; its array namespace and device are those of the result.
    shape
        (rows, cols), at least 16 by 16.
    settings
        Contents of the scene; defaults when None.
    dem
        [H, W] terrain height in m, on the grid of the scene (set ``pixel_m`` to its spacing); NaN and heights up to 0
        are water. Drawn when None.

    Raises
    ------
    UsageError
        The scene is too small.
    GridMismatchError
        ``dem`` has another shape.
    """
    settings = settings or InterferogramSettings()
    deforming = random.number(0, 1) < settings.deforming_share
    terrain = _terrain(random, shape, settings, dem)
    # A low hill never gathers enough delay to be taken for a source.
    tall = terrain.cones[0].height_m * settings.cone_rad_per_km[1] / 1000 >= _CONE_CONTRAST_RAD
    hard_negative = not deforming and tall and random.number(0, 1) < settings.cone_share
    look = _look(random)
    delay = _delay(random, terrain, settings, around_cone=hard_negative)
    share = _incoherent_share(random, settings)
    if deforming:
        # The island around a source takes holes away; larger ones around it keep their share no clue to the answer.
        share = max(share, _incoherent_share(random, settings))
    scene = Scene(terrain, look, delay, draw_coherence(random, terrain, look, share))
    cause = _Cause("none", None, random.xp.zeros_like(delay), hard_negative=hard_negative)
    if deforming:
        name = settings.sources[int(random.number(0, len(settings.sources)))]
        cause = _Cause(name, *deform(random, scene, name, settings), hard_negative=False)
        if random.number(0, 1) < settings.second_share:
            cause = _joined(cause, deform(random, scene, name, settings)[1])
    return _observe(random, scene, cause, settings)


@dataclass(frozen=True)
class _Cause:
    """What the scene is about: a source and its phase, [H, W] rad, or a cone that looks like one, or nothing."""

    name: SourceName | Literal["none"]
    source: DeformationSource | None
    phase: Array
    hard_negative: bool


def _joined(cause: _Cause, phase: Array) -> _Cause:
    """Add the phase of a second source of the same kind, [H, W] rad; the first one stays the one that is named."""
    return dataclasses.replace(cause, phase=cause.phase + phase)


def _observe(
    random: RandomSource, scene: Scene, cause: _Cause, settings: InterferogramSettings
) -> SimulatedInterferogram:
    """Add up all phase, and take away what decorrelation and the swath hide."""
    xp = random.xp
    terrain, deforming, coherence = scene.terrain, cause.source is not None, scene.coherence
    bound = math.inf
    if deforming:
        bound = max(settings.mask_rad, settings.mask_share * float(xp.max(xp.abs(cause.phase))))
    mask = xp.abs(cause.phase) > bound
    if deforming or cause.hard_negative or random.number(0, 1) < settings.island_share:
        cone = terrain.cones[0] if cause.hard_negative else None
        coherence = shown(random, coherence, mask, cone, terrain.pixel_m)
    if deforming:
        coherence = xp.astype(coherence * fringe_coherence(cause.phase), xp.float32)
    unwrapped = cause.phase + scene.delay + _noise(random, coherence, settings)
    unseen = _unseen(random, coherence, mask, scene.look, settings)
    unwrapped = xp.where(unseen, xp.full_like(unwrapped, math.nan), unwrapped)
    return SimulatedInterferogram(
        wrapped_rad=wrap(unwrapped, xp),
        unwrapped_rad=unwrapped,
        deformation_rad=cause.phase,
        delay_rad=scene.delay,
        mask=mask,
        mask_bound_rad=bound,
        coherence=coherence,
        dem=terrain.dem,
        water=terrain.water,
        source_name=cause.name,
        source=cause.source,
        look=scene.look,
        pixel_m=terrain.pixel_m,
        hard_negative=cause.hard_negative,
    )


def wrap(phase: Array, xp: Namespace) -> Array:
    """Wrap phase into (-pi, pi]; NaN stays.

    Parameters
    ----------
    phase
        Any shape, float, rad.
    xp
        Array namespace of ``phase``.

    Returns
    -------
    array
        Same shape, float32, rad.
    """
    exact = xp.astype(phase, xp.float64)
    turns = xp.ceil((exact - math.pi) / (2 * math.pi))
    return xp.clip(xp.astype(exact - turns * (2 * math.pi), xp.float32), -_LARGEST_PHASE, _LARGEST_PHASE)


def _terrain(
    random: RandomSource, shape: tuple[int, int], settings: InterferogramSettings, dem: Array | None
) -> Terrain:
    """Draw the pixel spacing and the ground, or take the ground that was given."""
    if min(shape) < _SMALLEST:
        raise UsageError(f"a scene of {shape} pixels", f"at least {_SMALLEST} rows and columns", "ask for more pixels")
    pixel_m = log_number(random, settings.pixel_m)
    if dem is None:
        sea_share = random.number(0.05, 0.85) if random.number(0, 1) < settings.coast_share else 0.0
        return simulated_terrain(random, shape, pixel_m, sea_share)
    if tuple(dem.shape) != shape:
        raise GridMismatchError(f"a DEM of {tuple(dem.shape)} pixels", f"{shape}", "crop or resample the DEM first")
    return given_terrain(dem, pixel_m)


def _look(random: RandomSource) -> LookGeometry:
    """Draw a pass of Sentinel-1."""
    orbit_pass: Literal["ascending", "descending"] = "ascending" if random.number(0, 1) < 0.5 else "descending"
    return LookGeometry(orbit_pass, random.number(*HEADING_DEG[orbit_pass]), random.number(*INCIDENCE_DEG))


def _delay(random: RandomSource, terrain: Terrain, settings: InterferogramSettings, *, around_cone: bool) -> Array:
    """Draw all delays, [H, W] rad; over a hard negative's cone the stratified one makes fringes."""
    shape = terrain.dem.shape
    delay = turbulent_delay(random, shape, terrain.pixel_m, log_number(random, settings.turbulence_rad))
    # A sum of three uniform draws is near enough to normal, and bounded.
    rate = sum(random.number(-1, 1) for _ in range(3)) * settings.stratified_rad_per_km
    if around_cone:
        sign = 1.0 if random.number(0, 1) < 0.5 else -1.0
        low, high = settings.cone_rad_per_km
        low = max(low, min(high, _CONE_CONTRAST_RAD / terrain.cones[0].height_m * 1000))
        # Strong gradients of vapour are rare.
        rate = sign * (low + (high - low) * random.number(0, 1) ** 2)
    delay = delay + stratified_delay(terrain.dem, rate, random.number(2000, 8000))
    if random.number(0, 1) < 0.6:
        delay = delay + orbital_ramp(random, shape, settings.ramp_rad * random.number(0, 1) ** 2)
    if random.number(0, 1) < settings.steep_ramp_share:
        delay = delay + orbital_ramp(random, shape, settings.steep_ramp_rad * random.number(0.1, 1), 0.05)
    if random.number(0, 1) < settings.step_share:
        delay = delay + processing_step(random, shape, random.number(-2.0, 2.0))
    # Only differences of phase mean anything.
    return delay + random.number(-math.pi, math.pi)


def _incoherent_share(random: RandomSource, settings: InterferogramSettings) -> float:
    """Draw the share of land without phase."""
    draw = random.number(0, 1)
    if draw < settings.lost_share:
        return random.number(0.9, 1.0)
    return random.number(0.02, 0.97) if random.number(0, 1) < settings.hole_share else 0.0


def _noise(random: RandomSource, coherence: Array, settings: InterferogramSettings) -> Array:
    """Draw phase noise, smoothed in some scenes."""
    filter_px = random.number(0.4, 1.2) if random.number(0, 1) < settings.filtered_share else 0.0
    return draw_noise(random, coherence, log_number(random, settings.looks), filter_px)


def _unseen(
    random: RandomSource, coherence: Array, mask: Array, look: LookGeometry, settings: InterferogramSettings
) -> Array:
    """Draw where the product holds no data, [H, W] bool; never most of what deforms."""
    xp = random.xp
    nowhere = xp.zeros_like(mask)
    area = float(xp.sum(xp.astype(mask, xp.float32)))
    edge, masked = nowhere, nowhere
    if random.number(0, 1) < settings.swath_edge_share:
        edge = beyond_swath(random, mask.shape, look)
    if random.number(0, 1) < settings.masked_share:
        masked = coherence < random.number(0.1, 0.35)
    for unseen in (edge | masked, masked, edge):
        if float(xp.sum(xp.astype(unseen & mask, xp.float32))) <= area / 2:
            return unseen
    return nowhere
