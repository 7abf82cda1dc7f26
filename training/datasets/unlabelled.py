"""Chips that nobody labelled: bands by name, and a pool of them to draw from.

All readers of such chips (`unlabelled_*.py`) give this one form, so that every method learns from every data set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import UsageError
from training.bands import band_of

LEAST_VALID = 0.05
"""Share of pixels with any band that a chip must have to be worth looking at."""


@dataclass(frozen=True)
class UnlabelledChip:
    """One chip, all its bands on one grid.

    Attributes
    ----------
    name
        Unique within its data set.
    place
        The unit by which data are split: event, site, volcano or region.
    layers
        float32 [row, col] by the name of the band (`training.bands`), in its unit, NaN where missing; all of one shape.
    """

    name: str
    place: str
    layers: Mapping[str, NDArray[np.float32]]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = next(iter(self.layers.values())).shape
        return rows, cols

    def pick(self, bands: Sequence[str]) -> NDArray[np.float32]:
        """Return bands by name, float32 [band, row, col]; one that the chip lacks is NaN, never another in its place.

        ``VV-VH`` is made of both where it is not there itself.
        """
        out = np.full((len(bands), *self.shape), np.nan, np.float32)
        for values, name in zip(out, bands, strict=True):
            if name in self.layers:
                values[:] = self.layers[name]
            elif name.startswith("VV-VH"):
                pair = [name.replace("VV-VH", base, 1) for base in ("VV", "VH")]
                if all(each in self.layers for each in pair):
                    values[:] = self.layers[pair[0]] - self.layers[pair[1]]
        return out


def tiled(chip: UnlabelledChip, size_px: int | None) -> Iterator[UnlabelledChip]:
    """Yield squares side by side that cover a chip; what is left over at its far edges joins no square.

    Parameters
    ----------
    chip
        Of any size; one no larger than a square is yielded as it is.
    size_px
        Rows and columns of a square; None: the chip as it is.
    """
    rows, cols = chip.shape
    if size_px is None or (rows <= size_px and cols <= size_px):
        yield chip
        return
    for row in range(0, max(1, rows - size_px + 1), size_px):
        for col in range(0, max(1, cols - size_px + 1), size_px):
            window = np.s_[row : row + size_px, col : col + size_px]
            layers = {name: np.ascontiguousarray(values[window]) for name, values in chip.layers.items()}
            yield UnlabelledChip(f"{chip.name}_{row}_{col}", chip.place, layers)


class UnlabelledPool:
    """Chips to learn from, in memory, those left out in which hardly anything was seen.

    Parameters
    ----------
    chips
        What readers give.
    bands
        Names of the bands that a network takes, `band_of` knows each.
    extra
        Further bands, such as height, that are kept and not asked for.

    Raises
    ------
    WrongBandsError
        When a band is unknown.
    UsageError
        When there is no chip, only chips without a value, or a single one: nothing can be told apart from it.
    """

    def __init__(self, chips: Iterable[UnlabelledChip], bands: Sequence[str], extra: Sequence[str] = ()) -> None:
        for name in (*bands, *extra):
            band_of(name)
        self.bands, self.extra = tuple(bands), tuple(extra)
        self.chips: list[UnlabelledChip] = []
        self.left_out = 0
        for chip in chips:
            seen = np.isfinite(chip.pick(self.bands)).any(axis=0).mean()
            if seen < LEAST_VALID:
                self.left_out += 1
                continue
            kept = {name: values for name, values in chip.layers.items() if self._wanted(name)}
            self.chips.append(UnlabelledChip(chip.name, chip.place, kept))
        self._check()

    def _wanted(self, name: str) -> bool:
        return any(name == band or (band.startswith("VV-VH") and name[:2] in {"VV", "VH"}) for band in self.bands) or (
            name in self.extra
        )

    def _check(self) -> None:
        wanted = ", ".join(self.bands)
        if not self.chips and self.left_out:
            raise UsageError(
                f"{self.left_out} unlabelled chips without a value in {wanted}",
                f"chips of which at least {LEAST_VALID:.0%} was seen",
                "check the bands in the recipe and the nodata of the files",
            )
        if not self.chips:
            raise UsageError(
                f"no unlabelled chip with {wanted}", "files in the layout of the data set", "check data in the recipe"
            )
        if len(self.chips) == 1:
            raise UsageError(
                f"one unlabelled chip, {self.chips[0].name}",
                "at least two: what a chip is like is told by others",
                "add scenes, or a smaller tile_px that parts a scene into several chips",
            )

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> UnlabelledChip:
        return self.chips[index]

    def places(self) -> dict[str, int]:
        """Return the number of chips by place."""
        found: dict[str, int] = {}
        for chip in self.chips:
            found[chip.place] = found.get(chip.place, 0) + 1
        return found
