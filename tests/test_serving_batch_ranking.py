"""Findings in words, and where to go first."""

import itertools
import json

import pytest
from batch_entries import Folder, done, failed, flood, landslide, volcano

from serving.batch import ranking
from serving.batch.findings import finding_of, interleave, km2_text, share_text
from serving.batch.ranking import PLACES, write_ranking
from serving.batch.ranks import RankedEntries


def order(entries):
    """Return the ids of ranked scenes in order."""
    with RankedEntries(entries) as ranked:
        return [scene.entry.id for scene in ranked.in_order()]


def polygon(number, area_km2, **more):
    """Return a feature as `tocsin.features` writes it."""
    known = {"id": number, "class": 3, "class_name": "flood_water", "area_km2": area_km2, "probability": 0.9} | more
    head = json.dumps({"type": "Feature", "id": number, "properties": known}, separators=(",", ":"))
    return (
        f'{head[:-1]},"geometry":{{"type":"Polygon","coordinates":[[[{number},0],[{number},1],[0,1],[{number},0]]]}}}}'
    )


def write_polygons(folder, name, *features):
    """Write a product with polygons."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"type":"FeatureCollection","features":[\n' + ",\n".join(features) + "\n]}\n")
    return {"polygons": name}


def features(folder, *entries):
    """Write the ranking and return its features."""
    assert write_ranking(entries, Folder(folder)) == {"ranking": "ranking.geojson"}
    return json.loads((folder / "ranking.geojson").read_text())["features"]


@pytest.mark.parametrize("turn", range(3))
def test_floods_are_ordered_by_flood_water_and_unsplit_water_comes_last(turn):
    """A lake that no reference splits never stands before a flood, however large, whatever the journal's order."""
    scenes = [
        done("small", flood(flood_km2=0.1)),
        done("lake", flood(water_km2=900)),
        done("large", flood(flood_km2=5, water_km2=6)),
        done("dry", flood(flood_km2=0, water_km2=3)),
    ]
    assert order(list(itertools.permutations(scenes))[turn * 7]) == ["large", "small", "lake"]


def test_one_huge_slide_and_a_swarm_of_small_ones_both_come_early():
    """Landslides are ordered by the larger share of area and number in the batch; scenes without such cells are out."""
    scenes = [
        done("some", landslide(slid_km2=0.2, expected=20)),
        done("huge", landslide(slid_km2=5.0, expected=2)),
        done("swarm", landslide(slid_km2=0.3, expected=70)),
        done("none", landslide(slid_km2=0.0, expected=9, low=0, high=0)),
    ]
    assert order(scenes) == ["huge", "swarm", "some"]


def test_volcanoes_are_ordered_by_probability_then_area():
    """Only what is labelled deformation is in the list."""
    scenes = [
        done("likely", volcano(0.8, deforming_km2=9)),
        done("sure", volcano(0.9, deforming_km2=1)),
        done("stable", volcano(0.1)),
        done("wide", volcano(0.9, deforming_km2=2)),
    ]
    assert order(scenes) == ["wide", "sure", "likely"]


def test_hazards_are_interleaved_and_ties_go_by_priority_then_id():
    """The first of each hazard comes before the second of any."""
    scenes = [
        done("v", volcano(0.9)),
        done("b", flood(flood_km2=1)),
        done("a", flood(flood_km2=1)),
        done("urgent", flood(flood_km2=1), priority=5),
        failed("x"),
    ]
    assert order(scenes) == ["urgent", "v", "a", "b"]
    assert list(interleave([[1, 4, 6], [2], [3, 5]])) == [1, 2, 3, 4, 5, 6]


def test_going_through_them_again_gives_every_scene_with_its_place():
    """Ranks stand with the entries in the journal's order; what failed or shows nothing has none."""
    scenes = [done("a", flood(flood_km2=1)), failed("b"), done("c", flood(flood_km2=2)), done("d", flood(flood_km2=0))]
    with RankedEntries(iter(scenes)) as ranked:
        for _ in range(2):
            assert [(scene.entry, scene.rank) for scene in ranked] == list(zip(scenes, (2, None, 1, None), strict=True))
        assert ranked.found == {"flood": 2}


def test_a_scene_stands_there_with_its_leading_polygons(tmp_path):
    """The largest flood polygons come first, at most five, and permanent water is none of them."""
    areas = [polygon(number, number / 10) for number in range(1, 9)]
    lake = polygon(99, 50.0, class_name="permanent_water")
    products = write_polygons(tmp_path, "flood/a/a_polygons.geojson", *areas, lake)
    found = features(tmp_path, done("a", flood(flood_km2=3.6, observed_km2=40), products=products))
    assert [feature["properties"]["area_km2"] for feature in found] == [0.8, 0.7, 0.6, 0.5, 0.4]
    assert [feature["properties"]["place"] for feature in found] == list(range(1, PLACES + 1))
    assert {feature["properties"]["rank"] for feature in found} == {1}
    assert found[0]["geometry"]["coordinates"][0][0] == [8, 0]
    assert found[0]["properties"]["found"] == "3.6 km² flood water"
    assert found[0]["properties"]["why"] == "9 % of the observed ground"


def test_landslide_cells_come_by_their_rank_and_deformation_by_its_chip(tmp_path):
    """Each hazard has its own order of places within a scene."""
    cells = [polygon(1, 0.4, class_name="low", rank=2), polygon(2, 0.4, class_name="high", rank=1)]
    spots = [
        polygon(3, 9.0, class_name="deforming", chip_probability=None),
        polygon(4, 1.0, class_name="deforming", chip_probability=0.7),
    ]
    slides = done("l", landslide(), products=write_polygons(tmp_path, "l.geojson", *cells))
    volcanoes = done("v", volcano(0.7), products=write_polygons(tmp_path, "v.geojson", *spots))
    first = [feature["geometry"]["coordinates"][0][0][0] for feature in features(tmp_path, slides, volcanoes)]
    assert first == [2, 1, 4, 3]


def test_what_has_no_polygon_or_no_place_says_so(tmp_path):
    """A file that vanished leaves the outline and a reason; a picture of phase has no geometry."""
    gone = done("gone", flood(flood_km2=1), products={"polygons": "flood/gone/gone_polygons.geojson"})
    picture = done("picture", volcano(0.9), crs="", products={})
    outline, nowhere = features(tmp_path, gone, picture)
    assert outline["geometry"]["type"] == "Polygon"
    assert "could not be read (FileNotFoundError)" in outline["properties"]["why"]
    assert nowhere["geometry"] is None


def test_after_the_first_scenes_outlines_stand_for_places(tmp_path, monkeypatch):
    """Polygons are read for so many scenes only, and the file says for how many."""
    monkeypatch.setattr(ranking, "WITH_PLACES", 1)
    scenes = [
        done(name, flood(flood_km2=km2), products=write_polygons(tmp_path, f"{name}.geojson", polygon(1, km2)))
        for name, km2 in (("first", 2), ("second", 1))
    ]
    found = features(tmp_path, *scenes)
    assert [feature["properties"]["area_km2"] for feature in found] == [2, None]
    assert found[1]["geometry"]["type"] == "Polygon"
    assert json.loads((tmp_path / "ranking.geojson").read_text())["tocsin:scenes_with_places"] == 1


def test_an_empty_scene_is_unknown_and_never_nothing_found():
    """Where nothing was observed nothing is said of the ground, and what was hardly seen says so."""
    empty = finding_of(done("a", flood(flood_km2=0, water_km2=0), status="empty").result)
    assert (empty.tone, empty.headline) == ("unknown", "Nothing observed")
    dry = finding_of(done("a", flood(flood_km2=0), seen=0.2).result)
    assert (dry.tone, dry.reasons) == ("nothing", ("only 20 % of the scene was seen",))


@pytest.mark.parametrize(
    ("summary", "tone", "headline"),
    [
        (flood(water_km2=0), "nothing", "No water"),
        (flood(water_km2=1234.5), "found", "1,234 km² water, no reference to split it"),
        (landslide(expected=41, low=0, high=2), "found", "41 landslides expected (20 to 82)"),
        (landslide(low=0, high=0), "nothing", "No landslides found"),
        (volcano(0.97), "found", "Deformation, P 0.97, mogi"),
        (volcano(0.2), "nothing", "No deformation seen, highest P 0.20"),
    ],
)
def test_findings_are_said_in_the_words_of_their_hazard(summary, tone, headline):
    """One line a duty officer reads."""
    finding = finding_of(done("a", summary).result)
    assert (finding.tone, finding.headline) == (tone, headline)


def test_rounding_never_makes_something_of_nothing_or_all_of_most():
    """Small areas and shares are not shown as zero, nor large shares as whole."""
    assert [km2_text(area) for area in (0, 0.001, 0.25, 12.34, 1234.5)] == [
        "0.00 km²",
        "< 0.01 km²",
        "0.25 km²",
        "12.3 km²",
        "1,234 km²",
    ]
    assert [share_text(share) for share in (0, 0.004, 0.5, 0.996, 1)] == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]
