"""Views of an unlabelled chip: where they are cut, how they are turned, what is missing in them.

Values change in `training.view_changes`. Everything is drawn from one generator, so that a resumed run sees the views
that the first one would have seen. Shape suffixes: B chips, N bands, H rows, W columns, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from training.bands import Kind, band_of
from training.datasets.unlabelled import UnlabelledChip
from training.recipe_parts import Part
from training.view_changes import UNCHANGED, Changes, changed

FloatArray = NDArray[np.float32]

TRIES = 5
"""Places tried before one is taken where hardly anything was seen."""
LEAST_SEEN = 0.05
LEAST_OVERLAP = 0.5
"""Share of a side that two views have in common where points of both are compared."""


class ViewSettings(Part):
    """How views are made.

    Mirrors and turns: the ground has no upright side, and phase none either; a radar has, so that quarter turns of
    backscatter are an approximation that holds on flat land (`turns: false` where relief matters). A change of scale is
    another pixel size: it is averaged in linear power, and as unit vectors for phase; speckle and fringes do not
    survive much of it, so that it is off unless a recipe asks for it.
    """

    chip_px: int = Field(224, ge=32, multiple_of=32, description="Rows and columns of a whole view.")
    local_px: int = Field(96, ge=32, multiple_of=32, description="Rows and columns of a local view.")
    scale: tuple[float, float] = Field((1.0, 1.0), description="Side that a view is cut from, over its own; from, to.")
    mirrors: bool = Field(default=True, description="Whether views may be mirrored.")
    turns: bool = Field(default=True, description="Whether views may be turned by quarters.")
    changes: Changes = Changes()
    hole_share: float = Field(0.1, ge=0, le=1, description="Share of views with a rectangle of no data.")
    lost_band_share: float = Field(0.0, ge=0, le=1, description="Share of views in which one band is missing.")
    single_band_share: float = Field(
        0.0, ge=0, le=1, description="Share of views of a modality in which one random valid band alone is left."
    )
    lost_modality_share: float = Field(0.0, ge=0, le=1, description="Share of chips of which a modality is missing.")


@dataclass(frozen=True)
class ViewPlan:
    """Which views a method compares.

    Attributes
    ----------
    whole, local
        Numbers of whole and of local views.
    heights
        Whether heights are wanted, with a view in which nothing was changed.
    points
        Points that the first two views have in common.
    """

    whole: int = 2
    local: int = 0
    heights: bool = False
    points: int = 0


class Views(NamedTuple):
    """A batch.

    Attributes
    ----------
    whole
        Whole views, each [B, N, H, W] float32, raw bands, NaN where missing.
    local
        Local views, likewise.
    plain
        [B, N, H, W] a whole view in which nothing was changed; without rows where none is wanted.
    height
        [B, 1, H, W] m, of the plain view, NaN where unknown; without rows where none is wanted.
    points
        [2, B, P, 2] row and column of the same places in the first two views, as shares of a side.
    """

    whole: tuple[Tensor, ...]
    local: tuple[Tensor, ...]
    plain: Tensor
    height: Tensor
    points: Tensor


@dataclass(frozen=True)
class Placement:
    """Where a view is cut and how it is turned.

    Attributes
    ----------
    row, col, side
        The square of the chip, px; it may reach outside.
    size_px
        Rows and columns of the view.
    turns
        Quarter turns counter-clockwise, after which rows are reversed if `mirrored`.
    """

    row: int
    col: int
    side: int
    size_px: int
    turns: int
    mirrored: bool

    def cut(self, values: FloatArray, kinds: Sequence[Kind]) -> FloatArray:
        """Return the view of a chip [band, row, col]; what lies outside is NaN."""
        square = np.full((len(values), self.side, self.side), np.nan, np.float32)
        rows, cols = (slice(max(0, start), max(0, start + self.side)) for start in (self.row, self.col))
        inside = values[:, rows, cols]
        top, left = max(0, -self.row), max(0, -self.col)
        square[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
        if self.side != self.size_px:
            square = _rescaled(square, kinds, self.size_px)
        turned = np.rot90(square, self.turns, (1, 2))
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)

    def locate(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where places of the chip [P, 2] lie in the view, as shares of its side."""
        row, col = ((places[:, axis] - start) / self.side for axis, start in enumerate((self.row, self.col)))
        for _ in range(self.turns):
            row, col = 1 - col, row
        return np.stack([1 - row if self.mirrored else row, col], axis=1)


class ViewMaker:
    """Makes batches of views.

    Parameters
    ----------
    modalities
        Bands by modality, in the order in which a network takes them.
    plan
        What a method compares.
    settings
        How views are made.
    """

    def __init__(self, modalities: Sequence[Sequence[str]], plan: ViewPlan, settings: ViewSettings) -> None:
        self.bands = tuple(name for bands in modalities for name in bands)
        self._kinds: tuple[Kind, ...] = tuple(band_of(name).kind for name in self.bands)
        ends = np.cumsum([len(bands) for bands in modalities])
        self._groups = [range(end - len(bands), end) for end, bands in zip(ends, modalities, strict=True)]
        self._plan, self._settings = plan, settings

    def batch(self, chips: Sequence[UnlabelledChip], random: np.random.Generator) -> Views:
        """Return views of chips."""
        made = [self._views(chip, random) for chip in chips]
        return Views(
            tuple(_stacked([each.whole[number] for each in made]) for number in range(self._plan.whole)),
            tuple(_stacked([each.local[number] for each in made]) for number in range(self._plan.local)),
            _stacked([each.plain for each in made]),
            _stacked([each.height for each in made]),
            _stacked([each.points for each in made]).transpose(0, 1),
        )

    def _views(self, chip: UnlabelledChip, random: np.random.Generator) -> "_Made":
        values, plan, size = chip.pick(self.bands), self._plan, self._settings.chip_px
        lost = self._lost_modality(random)
        places = [self._place(values, size, random) for _ in range(plan.whole)]
        if plan.points:
            places[1] = self._beside(values, places[0], random)
        whole = [self._view(values, each, lost, random) for each in places]
        local = [
            self._view(values, self._place(values, self._settings.local_px, random), lost, random)
            for _ in range(plan.local)
        ]
        plain, height = np.empty((0, size, size), np.float32), np.empty((0, size, size), np.float32)
        if plan.heights:
            plain = places[0].cut(values, self._kinds)
            height = places[0].cut(chip.pick(("height",)), ("height",))
        points = _common(places[0], places[1], plan.points, random) if plan.points else np.empty((2, 0, 2))
        return _Made(whole, local, plain, height, points.astype(np.float32))

    def _place(self, values: FloatArray, size_px: int, random: np.random.Generator) -> Placement:
        """Draw a place of which something was seen, the last of a few tries otherwise."""
        settings = self._settings
        for _ in range(TRIES):
            side = max(1, round(size_px * random.uniform(*settings.scale)))
            row, col = (_start(length, side, random) for length in values.shape[1:])
            turns = int(random.integers(4)) if settings.turns else 0
            mirrored = settings.mirrors and random.random() < 0.5
            place = Placement(row, col, side, size_px, turns, bool(mirrored))
            window = values[:, max(0, row) : max(0, row + side), max(0, col) : max(0, col + side)]
            if np.isfinite(window).any(axis=0).sum() >= LEAST_SEEN * side**2:
                break
        return place

    def _beside(self, values: FloatArray, first: Placement, random: np.random.Generator) -> Placement:
        """Draw a place that shares much with another, that one if none does."""
        for _ in range(TRIES):
            second = self._place(values, first.size_px, random)
            if min(_shared(first, second)) >= LEAST_OVERLAP * first.side:
                return second
        return first

    def _lost_modality(self, random: np.random.Generator) -> int | None:
        several = len(self._groups) > 1
        return (
            int(random.integers(len(self._groups)))
            if several and random.random() < self._settings.lost_modality_share
            else None
        )

    def _view(self, values: FloatArray, place: Placement, lost: int | None, random: np.random.Generator) -> FloatArray:
        """Return one view, changed, with what is missing in it."""
        settings = self._settings
        view = place.cut(values, self._kinds)
        if settings.changes != UNCHANGED:
            view = changed(view, self._kinds, settings.changes, random)
        if random.random() < settings.hole_share:
            rows, cols = (_slice(place.size_px, random) for _ in range(2))
            view[:, rows, cols] = np.nan
        for number, group in enumerate(self._groups):
            if number == lost:
                view[list(group)] = np.nan
            elif random.random() < settings.single_band_share:
                seen = [band for band in group if np.isfinite(view[band]).any()]
                kept = seen[int(random.integers(len(seen)))] if seen else group[0]
                view[[band for band in group if band != kept]] = np.nan
        if len(view) > 1 and random.random() < settings.lost_band_share:
            view[int(random.integers(len(view)))] = np.nan
        return view


class _Made(NamedTuple):
    """The views of one chip, as in `Views`."""

    whole: list[FloatArray]
    local: list[FloatArray]
    plain: FloatArray
    height: FloatArray
    points: FloatArray


def _stacked(arrays: Sequence[FloatArray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _start(length: int, side: int, random: np.random.Generator) -> int:
    """Draw where a side begins on a length; a side that is longer begins before it."""
    low, high = sorted((0, length - side))
    return int(random.integers(low, high + 1))


def _slice(length: int, random: np.random.Generator) -> slice:
    """Draw a slice of at most a third."""
    size = int(random.integers(1, length // 3 + 1))
    start = int(random.integers(0, length - size + 1))
    return slice(start, start + size)


def _shared(first: Placement, second: Placement) -> tuple[int, int]:
    """Return rows and columns that two places have in common."""
    rows, cols = (
        min(getattr(first, axis) + first.side, getattr(second, axis) + second.side)
        - max(getattr(first, axis), getattr(second, axis))
        for axis in ("row", "col")
    )
    return rows, cols


def _common(first: Placement, second: Placement, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return points that both places show, in shares of either view, [2, P, 2]."""
    start = np.array([max(first.row, second.row), max(first.col, second.col)])
    places = start + random.random((count, 2)) * np.array(_shared(first, second))
    return np.stack([first.locate(places), second.locate(places)])


def _rescaled(values: FloatArray, kinds: Sequence[Kind], size_px: int) -> FloatArray:
    """Return a square with other pixels: means over what was measured, of power, unit vectors or values as they are."""
    out = np.empty((len(values), size_px, size_px), np.float32)
    for index, kind in enumerate(kinds):
        there = np.isfinite(values[index])
        given = np.where(there, values[index], 0)
        if kind == "phase":
            parts = np.stack([np.cos(given), np.sin(given)])
        elif kind == "backscatter":
            parts = 10 ** (given[None] / 10)
        else:
            parts = given[None]
        weighted = np.concatenate([parts * there, there[None]]).astype(np.float32)
        *means, share = _resampled(weighted, size_px)
        with np.errstate(divide="ignore", invalid="ignore"):
            if kind == "phase":
                value = np.arctan2(means[1], means[0])
            elif kind == "backscatter":
                value = 10 * np.log10(means[0] / share)
            else:
                value = means[0] / share
        out[index] = np.where(share >= 0.5, value, np.nan)
    return out


def _resampled(values: FloatArray, size_px: int) -> FloatArray:
    resampled = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None], size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False
    )
    return np.asarray(resampled[0].numpy(), np.float32)
