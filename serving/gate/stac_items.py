"""STAC items as inputs: which asset is which input, by role, key and band name."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pystac
from pystac.errors import STACError, STACTypeError
from pystac.utils import make_absolute_href

from serving.gate.inputs import FILES
from tocsin.errors import UsageError, WrongBandsError
from tocsin.hazards.flood import BANDS
from tocsin.result import Hazard

SCENE: Final[Mapping[Hazard, str]] = MappingProxyType(
    {"flood": "post", "landslide": "post", "volcano": "interferogram"}
)
"""The input that an item without further words is."""

ALSO_CALLED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "coherence": frozenset({"corr", "cc"}),
        "dem": frozenset({"elevation", "height"}),
        "interferogram": frozenset({"phase", "wrapped_phase", "diff_pha", "unw", "unw_phase"}),
    }
)
"""What producers call an input."""

NO_DATA_ROLES: Final = frozenset({"thumbnail", "overview", "metadata", "visual", "graphic", "data-mask"})
"""Roles of assets that nothing is read from."""


def read_item(document: object, href: str) -> pystac.Item:
    """Return a STAC item; nothing that it links to is read.

    Parameters
    ----------
    document
        JSON as it came.
    href
        Where it came from: its relative references begin there.

    Raises
    ------
    UsageError
        It is no STAC item.
    """
    try:
        item = pystac.Item.from_dict(document if isinstance(document, dict) else {})
    except (STACError, STACTypeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"JSON that is no STAC item ({type(error).__name__})", "a STAC item", "name an item, or a raster"
        ) from error
    for asset in item.assets.values():
        asset.href = make_absolute_href(str(asset.href), href, start_is_dir=False)
    return item


def assets_of_acquisition(hazard: Hazard, item: pystac.Item) -> list[str]:
    """Return the references of the scene in an item: one file, or VV and VH.

    Raises
    ------
    WrongBandsError
        It cannot be told which assets are meant.
    """
    return _scene(hazard, item.assets)


def assets_of_hazard(hazard: Hazard, item: pystac.Item) -> dict[str, list[str]]:
    """Return references by input: assets whose key or role is its name, and the scene.

    Raises
    ------
    WrongBandsError
        It cannot be told which assets are the scene.
    """
    found: dict[str, list[str]] = {}
    left = dict(item.assets)
    for name in FILES[hazard]:
        wanted = {name, *ALSO_CALLED.get(name, ())}
        keys = [key for key, asset in left.items() if wanted & _called(key, asset)]
        if keys:
            found[name] = [str(left.pop(key).href) for key in keys]
    scene = SCENE[hazard]
    if scene not in found:
        found[scene] = _scene(hazard, left)
    return found


def _scene(hazard: Hazard, assets: Mapping[str, pystac.Asset]) -> list[str]:
    data = {key: asset for key, asset in assets.items() if not NO_DATA_ROLES & set(_texts(asset.roles))}
    if hazard == "volcano":
        wanted = {"interferogram", *ALSO_CALLED["interferogram"]}
        named = [asset for key, asset in data.items() if wanted & _called(key, asset)]
    else:
        bands = {key: _polarisations(key, asset) for key, asset in data.items()}
        whole = [data[key] for key, held in bands.items() if held == set(BANDS)]
        parts = [[data[key] for key, held in bands.items() if held == {band}] for band in BANDS]
        named = [part[0] for part in parts] if not whole and all(len(part) == 1 for part in parts) else whole
        if len(named) == 2 and not whole:
            return [str(asset.href) for asset in named]
    if not named and len(data) == 1:
        named = list(data.values())
    if len(named) != 1:
        raise WrongBandsError(
            f"a STAC item with the assets {', '.join(assets) or 'none'}"[:300],
            "one interferogram" if hazard == "volcano" else "one asset with VV and VH, or one of each, by band name",
            "name the files themselves by input",
        )
    return [str(named[0].href)]


def _called(key: str, asset: pystac.Asset) -> set[str]:
    """Return every name of an asset: key, roles and band names, in lower case."""
    return {text.lower().replace("-", "_") for text in (key, *_texts(asset.roles), *_band_names(asset))}


def _polarisations(key: str, asset: pystac.Asset) -> set[str]:
    """Return which of VV and VH an asset holds, by its bands, else by its key."""
    said = [*_texts(asset.extra_fields.get("sar:polarizations")), *_band_names(asset)]
    return {text.upper() for text in said or [key]} & set(BANDS)


def _band_names(asset: pystac.Asset) -> list[str]:
    bands = [asset.extra_fields.get(name) for name in ("bands", "eo:bands", "raster:bands")]
    return _texts(band.get("name") for each in bands if isinstance(each, list) for band in each if _is_object(band))


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _texts(values: Iterable[Any] | object) -> list[str]:
    """Return the texts among values that anybody may have written."""
    if values is None or isinstance(values, str) or not isinstance(values, Iterable):
        return []
    return [value for value in values if isinstance(value, str)]
