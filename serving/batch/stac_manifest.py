"""Scenes of a STAC catalog or ItemCollection: which asset is which input, by role, key and band name.

An asset is the input that one of its roles names, else its key, else its collection of bands: an item of plain
Sentinel-1 assets ``vv`` and ``vh`` is the main input of its hazard. Assets of one input that hold one polarisation each
are one acquisition; further ones, in the order of the item, are further acquisitions.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from serving.batch.places import resolve
from serving.batch.scenes import PATH_COLUMNS, Row
from tocsin.errors import UsageError
from tocsin.result import Hazard

if TYPE_CHECKING:
    from pystac import Asset, Item

POLARISATIONS: Final = ("VV", "VH")
PREFIX: Final = "tocsin:"
"""Of properties that are columns of a manifest: tocsin:hazard, tocsin:priority, tocsin:units, ..."""


def stac_rows(path: Path, content: dict[str, Any], hazard: Hazard | None) -> Iterator[Row]:
    """Read the items of a catalog, a collection, an ItemCollection or a single item.

    Parameters
    ----------
    path
        Of the file.
    content
        What stands in it.
    hazard
        Of items that do not say it.

    Raises
    ------
    UsageError
        It is no valid STAC.
    """
    import pystac

    try:
        for item in _items(path, content):
            cells = {
                name.removeprefix(PREFIX): str(value)
                for name, value in item.properties.items()
                if name.startswith(PREFIX) and value is not None
            }
            yield Row(
                f"item {item.id} of {path.name}", {"id": item.id} | cells | _inputs(item, cells.get("hazard", hazard))
            )
    except (pystac.STACError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} ({type(error).__name__}: {error})", "valid STAC", "run stac-validator on it"
        ) from error


def _items(path: Path, content: dict[str, Any]) -> "Iterable[Item]":
    import pystac

    if content.get("type") == "FeatureCollection":
        collection = pystac.ItemCollection.from_dict(content)
        for item in collection:
            item.set_self_href(item.get_self_href() or str(path.parent / f"{item.id}.json"))
        return collection
    if content.get("type") == "Feature":
        return [pystac.Item.from_file(str(path))]
    return pystac.Catalog.from_file(str(path)).get_items(recursive=True)


def _inputs(item: "Item", hazard: str | None) -> dict[str, str]:
    """Cells of the inputs: bands of an acquisition joined by ``;``, acquisitions by ``|``."""
    main = "interferogram" if hazard == "volcano" else "post"
    acquisitions: dict[str, list[dict[str, str]]] = {}
    for key, asset in item.assets.items():
        name, band = _input_of(key, asset), _polarisation(key, asset)
        if name is None and band is not None:
            name = main
        if name is None:
            continue
        there = acquisitions.setdefault(name, [])
        # The other polarisation of the acquisition before, else an acquisition of its own.
        if band is not None and there and band not in there[-1] and set(there[-1]) <= set(POLARISATIONS):
            there[-1][band] = _href(item, asset)
        else:
            there.append({band or "": _href(item, asset)})
    return {
        name: "|".join(";".join(one[band] for band in ("", *POLARISATIONS) if band in one) for one in several)
        for name, several in acquisitions.items()
    }


def _input_of(key: str, asset: "Asset") -> str | None:
    named = (*(asset.roles or ()), key)
    return next((found for each in named if (found := each.replace("-", "_").lower()) in PATH_COLUMNS), None)


def _polarisation(key: str, asset: "Asset") -> str | None:
    """Return the one polarisation that an asset holds; None when it holds several or does not say."""
    more = asset.extra_fields
    bands = [*more.get("bands", ()), *more.get("eo:bands", ()), *more.get("raster:bands", ())]
    said = [str(band.get("name", "")) for band in bands] + [str(each) for each in more.get("sar:polarizations", ())]
    found = {name for name in (*said, "" if said else key) for name in [name.upper()] if name in POLARISATIONS}
    return found.pop() if len(found) == 1 else None


def _href(item: "Item", asset: "Asset") -> str:
    return resolve(asset.get_absolute_href() or asset.href, str(Path(item.get_self_href() or ".").parent))
