"""Sen1Floods11 in the layout of its public bucket (Bonafilia et al. 2020, CVPR workshops).

Chips are ``v1.1/data/flood_events/HandLabeled/KIND/EVENT_ID_KIND.tif``, where KIND is ``S1Hand``, ``S2Hand`` or
``LabelHand``. Official splits, when present, are
``v1.1/splits/flood_handlabeled/flood_{train,valid,test,bolivia}_data.csv``.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import UsageError, WrongBandsError
from tocsin.grid import Window
from tocsin.raster import open_raster
from training.datasets.chip import IGNORE, LabelledChip

HAND: Final = Path("v1.1/data/flood_events/HandLabeled")
SPLITS: Final = Path("v1.1/splits/flood_handlabeled")

S2_BANDS: Final = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
"""Bands of an S2Hand file, in order: Sentinel-2 L1C, all resampled to 10 m."""
S2_SCALE: Final = 1e-4
"""Reflectance of one digital number; the chips of 2016 to 2019 precede the offset of processing baseline 04.00."""

Split = Literal["train", "valid", "test", "bolivia"]


class Sen1Floods11:
    """The hand-labelled chips below a folder.

    Parameters
    ----------
    folder
        The bucket's root (it holds ``v1.1``), or the folder that holds ``S1Hand`` and ``LabelHand`` itself.

    Raises
    ------
    UsageError
        When neither layout is found there.
    """

    def __init__(self, folder: str | Path) -> None:
        root = Path(folder)
        self.root = root
        self.hand = root / HAND if (root / HAND / "S1Hand").is_dir() else root
        if not (self.hand / "S1Hand").is_dir():
            raise UsageError(
                given=f"{root}, which holds neither {HAND}/S1Hand nor S1Hand",
                expected="Sen1Floods11 in the layout of its public bucket",
                todo="pass the folder that holds v1.1, or the one that holds S1Hand and LabelHand",
            )

    def names(self, split: Split | None = None) -> tuple[str, ...]:
        """Return the chip names, sorted; those of an official split when one is named.

        Raises
        ------
        UsageError
            When a split is asked for and its CSV is not there.
        """
        present = {path.name.removesuffix("_S1Hand.tif") for path in (self.hand / "S1Hand").glob("*_S1Hand.tif")}
        if split is None:
            return tuple(sorted(present))
        table = self.root / SPLITS / f"flood_{split}_data.csv"
        if not table.is_file():
            raise UsageError(
                given=f"split {split!r} without its table {table}",
                expected="the official split tables beside the data",
                todo="copy v1.1/splits from the bucket, or split by event",
            )
        with table.open(newline="") as file:
            listed = {row[0].removesuffix("_S1Hand.tif") for row in csv.reader(file) if row}
        return tuple(sorted(present & listed))

    def read(self, name: str) -> LabelledChip:
        """Read one chip; pixels without any valid band are not judged."""
        with open_raster(self.hand / "S1Hand" / f"{name}_S1Hand.tif") as raster:
            window = Window(0, 0, raster.grid.height, raster.grid.width)
            s1_db = raster.read(window)
        with open_raster(self.hand / "LabelHand" / f"{name}_LabelHand.tif") as raster:
            stored = raster.read(window)[0]
        judged = np.isfinite(stored) & (stored >= 0) & np.isfinite(s1_db).any(axis=0)
        label = np.where(judged, stored, IGNORE).astype(np.int16)
        return LabelledChip(name, event_of(name), s1_db, label)

    def read_s2(self, name: str) -> NDArray[np.float32]:
        """Read the optical acquisition of one chip.

        Returns
        -------
        numpy.ndarray
            float32 [13, row, col], top-of-atmosphere reflectance in the order of :data:`S2_BANDS`; NaN where all bands
            are 0, which is how the release marks missing pixels.

        Raises
        ------
        UsageError
            When the chip has no S2Hand file.
        WrongBandsError
            When it does not hold 13 bands.
        """
        path = self.hand / "S2Hand" / f"{name}_S2Hand.tif"
        with open_raster(path) as raster:
            if raster.count != len(S2_BANDS):
                raise WrongBandsError(f"{path} with {raster.count} bands", f"{', '.join(S2_BANDS)}", "check the file")
            stored = raster.read(Window(0, 0, raster.grid.height, raster.grid.width))
        missing = (stored == 0).all(axis=0) | np.isnan(stored).any(axis=0)
        return np.where(missing, np.float32(np.nan), stored * np.float32(S2_SCALE))

    def chips(self, split: Split | None = None) -> Iterator[LabelledChip]:
        """Read the chips in which at least one pixel is judged, in the order of their names."""
        for name in self.names(split):
            chip = self.read(name)
            if (chip.label != IGNORE).any():
                yield chip


def event_of(name: str) -> str:
    """Return the event of a chip name: what stands before the last underscore."""
    return name.rpartition("_")[0]
