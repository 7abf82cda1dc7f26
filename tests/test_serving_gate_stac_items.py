import pystac
import pytest

from serving.gate.stac_items import assets_of_acquisition, assets_of_hazard, read_item
from tocsin.errors import UsageError, WrongBandsError

HREF = "https://data.example.org/items/a.json"


def item(**assets):
    """Return an item with these assets, each a reference or its fields."""
    facts = {"type": "Feature", "stac_version": "1.1.0", "id": "a", "geometry": None, "bbox": None, "links": []}
    held = {key: {"href": asset} if isinstance(asset, str) else asset for key, asset in assets.items()}
    return read_item(facts | {"properties": {"datetime": "2020-01-01T00:00:00Z"}, "assets": held}, HREF)


def test_references_begin_at_the_item():
    """Relative references lie beside the item, in a bucket as on a host; absolute references stay."""
    found = item(a="./a.tif", b="../b.tif", c="s3://bucket/c.tif", d="/d.tif").assets
    assert [found[key].href for key in "abcd"] == [
        "https://data.example.org/items/a.tif",
        "https://data.example.org/b.tif",
        "s3://bucket/c.tif",
        "https://data.example.org/d.tif",
    ]
    facts = item(a="a.tif").to_dict(include_self_link=False, transform_hrefs=False)
    facts["assets"] = {"a": {"href": "./x/a.tif"}}
    assert read_item(facts, "s3://bucket/rtc/a.json").assets["a"].href == "s3://bucket/rtc/x/a.tif"


@pytest.mark.parametrize(
    "assets",
    [
        {"VV": "v", "VH": "h"},
        {"vv": "v", "vh": "h", "thumbnail": {"href": "t", "roles": ["thumbnail"]}},
        {"one": {"href": "v", "bands": [{"name": "VV"}]}, "two": {"href": "h", "bands": [{"name": "VH"}]}},
        {"one": {"href": "h", "sar:polarizations": ["VH"]}, "two": {"href": "v", "sar:polarizations": ["VV"]}},
        {
            "one": {"href": "v", "eo:bands": [{"name": "vv"}]},
            "two": {"href": "h", "eo:bands": [{"name": "vh"}]},
            "inc": "i",
        },
    ],
)
def test_polarisations_are_found_by_band_or_key(assets):
    """VV comes first, however the producer states which is which."""
    found = assets_of_acquisition("flood", item(**assets))
    assert [href.rpartition("/")[2] for href in found] == ["v", "h"]


@pytest.mark.parametrize(
    "assets",
    [
        {"data": "a"},
        {"image": {"href": "a", "bands": [{"name": "VV"}, {"name": "VH"}]}, "mask": {"href": "m", "roles": ["data"]}},
        {"image": {"href": "a", "sar:polarizations": ["VV", "VH"]}, "VV": "v", "VH": "h"},
    ],
)
def test_one_asset_may_hold_both(assets):
    """A file with both bands is preferred, and one that is alone needs no name."""
    assert [href.rpartition("/")[2] for href in assets_of_acquisition("flood", item(**assets))] == ["a"]


@pytest.mark.parametrize(
    "assets",
    [{}, {"a": "a", "b": "b"}, {"VV": "v"} | {"x": "x"}, {"a": {"href": "a", "roles": ["metadata"]}}],
)
def test_items_that_cannot_be_told_apart_are_refused(assets):
    """Nothing is guessed among assets without names."""
    with pytest.raises(WrongBandsError):
        assets_of_acquisition("flood", item(**assets))


def test_all_inputs_are_found_by_name_and_role():
    """Keys, roles and what producers call an input count; the rest is the scene."""
    flood = item(
        VV="v",
        VH="h",
        dem="d",
        towns={"href": "e", "roles": ["exclude"]},
        water={"href": "w", "roles": ["reference-water"]},
    )
    assert {
        name: [href.rpartition("/")[2] for href in hrefs] for name, hrefs in assets_of_hazard("flood", flood).items()
    } == {
        "post": ["v", "h"],
        "dem": ["d"],
        "exclude": ["e"],
        "reference_water": ["w"],
    }
    volcano = item(wrapped_phase="p", corr="c", preview={"href": "t", "roles": ["overview"]})
    assert {
        name: [href.rpartition("/")[2] for href in hrefs]
        for name, hrefs in assets_of_hazard("volcano", volcano).items()
    } == {
        "interferogram": ["p"],
        "coherence": ["c"],
    }


def test_assets_of_any_shape_are_answered():
    """Fields that are not what the specification says are passed over, not believed."""
    odd = {"href": "a", "bands": [1, {"name": 2}, {"name": "VV"}], "eo:bands": "VH", "sar:polarizations": 7}
    with pytest.raises(WrongBandsError):
        assets_of_acquisition("flood", item(a=odd, b=odd))
    assert len(assets_of_acquisition("flood", item(a=odd))) == 1


@pytest.mark.parametrize(
    "document",
    [
        None,
        1,
        [],
        {},
        {"type": "Feature"},
        {"type": "Catalog", "stac_version": "1.0.0", "id": "a"},
        {"type": "Feature", "stac_version": "1.0.0"},
    ],
)
def test_other_documents_are_refused(document):
    """What is no STAC item is told so."""
    with pytest.raises(UsageError, match="STAC item"):
        read_item(document, HREF)


def test_nothing_that_an_item_links_to_is_read(monkeypatch):
    """Links to parents, collections and extensions stay links."""

    def read(*_, **__):
        raise AssertionError("an item was followed")

    monkeypatch.setattr(pystac.StacIO, "read_text", read, raising=False)
    monkeypatch.setattr(pystac.stac_io.DefaultStacIO, "read_text_from_href", read)
    document = item(VV="v", VH="h").to_dict(include_self_link=False, transform_hrefs=False)
    document["links"] = [
        {"rel": rel, "href": "https://evil.example.org/x.json"} for rel in ("root", "parent", "collection", "self")
    ]
    document["stac_extensions"] = ["https://evil.example.org/schema.json"]
    assert assets_of_acquisition("flood", read_item(document, HREF))[0] == "https://data.example.org/items/v"
