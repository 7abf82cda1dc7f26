"""Names, completeness and order of product files."""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from tocsin.errors import ProductExistsError, StorageFullError, UsageError
from tocsin.grid import Grid
from tocsin.product_files import SUFFIXES, ProductFiles
from tocsin.raster import RasterSpec

GRID = Grid(CRS.from_epsg(32630), Affine(10, 0, 5e5, 0, -10, 4.2e6), 8, 9)
SPEC = RasterSpec(dtype="uint8", nodata=255, overview="mode")


def begin(out, *, overwrite=False, exclusion=False):
    """Begin class, exclusion and polygons of a scene, completely written."""
    files = ProductFiles(out, "a", overwrite=overwrite)
    for name in ("class", "exclusion") if exclusion else ("class",):
        files.raster(name, GRID, SPEC).write_rows(0, np.zeros(GRID.shape, dtype=np.uint8))
    files.working("polygons").write_text("{}")
    return files


def names(folder):
    """Everything in a folder."""
    return sorted(path.name for path in folder.rglob("*"))


def test_nothing_has_a_final_name_before_the_commit(tmp_path):
    """Working files match no product, and all appear together."""
    files = begin(tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith("a_")]
    assert all(name.startswith(".tocsin-") for name in (path.name for path in (tmp_path / "out").iterdir()))
    products = files.commit()
    assert list(products) == ["polygons", "class"]
    assert names(tmp_path / "out") == ["a_class.tif", "a_polygons.geojson"]


def test_the_class_raster_comes_last():
    """It marks completion: whoever sees it finds all the rest."""
    assert list(SUFFIXES)[-1] == "class"


def test_discarding_leaves_nothing(tmp_path):
    """Also when it is done twice, and after a commit it leaves everything."""
    files = begin(tmp_path)
    files.discard()
    files.discard()
    assert names(tmp_path) == []
    done = begin(tmp_path)
    done.commit()
    done.discard()
    assert names(tmp_path) == ["a_class.tif", "a_polygons.geojson"]


def test_existing_products_are_refused_before_any_work_and_kept(tmp_path):
    """One of them is enough; other scenes do not matter."""
    (tmp_path / "a_item.json").write_text("old")
    (tmp_path / "b_class.tif").write_text("old")
    with pytest.raises(ProductExistsError, match=r"a_item\.json.*--overwrite"):
        ProductFiles(tmp_path, "a", overwrite=False)
    assert names(tmp_path) == ["a_item.json", "b_class.tif"]
    with pytest.raises(UsageError):
        ProductFiles(tmp_path / "a_item.json", "a", overwrite=False)


def test_overwriting_replaces_and_removes_what_is_no_longer_made(tmp_path):
    """An exclusion of an earlier run would be read as one of this."""
    begin(tmp_path, exclusion=True).commit()
    files = begin(tmp_path, overwrite=True)
    assert "a_exclusion.tif" in names(tmp_path)
    files.commit()
    assert names(tmp_path) == ["a_class.tif", "a_polygons.geojson"]


def test_an_interrupt_between_two_renames_leaves_no_product(tmp_path, monkeypatch):
    """All or none, also then."""
    files = begin(tmp_path)
    monkeypatch.setattr("tocsin.raster.RasterWriter.commit", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.commit()
    files.discard()
    assert names(tmp_path) == []


def test_a_full_disk_while_finishing_is_the_error_of_the_contract(tmp_path):
    """Whatever file it hits."""
    files = begin(tmp_path)
    with pytest.raises(StorageFullError, match="No space"), files.finishing():
        raise OSError(28, "No space left on device")
    files.discard()
    assert names(tmp_path) == []
