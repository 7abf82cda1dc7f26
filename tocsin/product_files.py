"""Names of a scene's products, and how they appear: written aside, then all renamed, ``*_class.tif`` last."""

import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tocsin.errors import ProductExistsError, StorageFullError, UsageError
from tocsin.grid import Grid
from tocsin.raster import RasterSpec, RasterWriter
from tocsin.result import ProductName

SUFFIXES: Final[dict[ProductName, str]] = {
    "probability": "_probability.tif",
    "density": "_density.tif",
    "mask": "_mask.tif",
    "exclusion": "_exclusion.tif",
    "anomaly": "_map.tif",
    "polygons": "_polygons.geojson",
    "geopackage": "_polygons.gpkg",
    "quicklook": "_quicklook.png",
    "item": "_item.json",
    "class": "_class.tif",
}
"""What follows the scene id, in the order of renaming: the class raster marks completion."""


class ProductFiles:
    """The files of one scene in one folder.

    Parameters
    ----------
    out : Path
        Folder; made with the first file.
    scene_id : str
        Names start with it.
    overwrite : bool
        Replace existing products instead of refusing.

    Raises
    ------
    ProductExistsError
        A product of this scene is there already.
    UsageError
        `out` is no folder.
    """

    def __init__(self, out: Path, scene_id: str, *, overwrite: bool) -> None:
        self._out = out
        self._scene_id = scene_id
        self._work = out / f".tocsin-{secrets.token_hex(8)}.part"
        self._rasters: dict[ProductName, RasterWriter] = {}
        self._others: dict[ProductName, Path] = {}
        if out.exists() and not out.is_dir():
            raise UsageError(f"-o {out}, which is a file", "a folder for products", "choose another -o")
        existing = [path.name for name in SUFFIXES if (path := self.path(name)).exists()]
        if existing and not overwrite:
            raise ProductExistsError(
                f"{out}, which holds {', '.join(existing)}",
                "a folder without products of this scene",
                "pass --overwrite or choose another -o",
            )

    def path(self, name: ProductName) -> Path:
        """Return the final place of a product."""
        return self._out / f"{self._scene_id}{SUFFIXES[name]}"

    @property
    def names(self) -> dict[ProductName, str]:
        """File name of each product begun so far, in the order of `SUFFIXES`."""
        begun = self._rasters.keys() | self._others.keys()
        return {name: self.path(name).name for name in SUFFIXES if name in begun}

    def raster(self, name: ProductName, grid: Grid, spec: RasterSpec) -> RasterWriter:
        """Begin a raster product; it is finished and renamed here."""
        self._out.mkdir(parents=True, exist_ok=True)
        self._rasters[name] = RasterWriter(self.path(name), grid, spec)
        return self._rasters[name]

    def working(self, name: ProductName) -> Path:
        """Begin any other product and return where to write it: a path with the product's own suffix."""
        self._work.mkdir(parents=True, exist_ok=True)
        self._others[name] = self._work / self.path(name).name
        return self._others[name]

    def scratch(self, name: str) -> Path:
        """Return where to write something that is no product and goes with the working files."""
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work / name

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Finish all rasters while the block writes the rest."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            # Largest first: two threads then end together.
            begun = sorted(self._rasters, key=lambda name: name != "probability")
            waiting = [pool.submit(self._rasters[name].finish) for name in begun]
            try:
                yield
            except OSError as error:
                raise StorageFullError(
                    f"{self._out} ({error})",
                    "room for the products (see --dry-run)",
                    "free some space or choose another -o",
                ) from error
            for future in waiting:
                future.result()

    def commit(self) -> dict[ProductName, str]:
        """Rename everything into place and return the paths; products of an earlier run that were not made now go."""
        for writer in self._rasters.values():
            writer.finish()
        for name in ("class", *SUFFIXES):
            # The old class raster goes first: what it marks as complete is being replaced.
            if name == "class" or name not in self.names:
                self.path(name).unlink(missing_ok=True)
        products: dict[ProductName, str] = {}
        try:
            for name in self.names:
                products[name] = str(self.path(name))
                if name in self._rasters:
                    self._rasters[name].commit()
                else:
                    self._others[name].replace(self.path(name))
        except BaseException:
            # All or none: also when an interrupt comes between two renames.
            for path in products.values():
                Path(path).unlink(missing_ok=True)
            raise
        self.discard()
        return products

    def discard(self) -> None:
        """Remove working files; safe to call twice and after `commit`."""
        for writer in self._rasters.values():
            writer.discard()
        shutil.rmtree(self._work, ignore_errors=True)
