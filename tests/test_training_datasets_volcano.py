"""Readers of pictures of interferograms: DeepCube and Hephaestus, and groups that do not leak."""

import json
import math
from datetime import date

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tocsin.errors import UsageError, WrongUnitsError
from tocsin.interferograms import Taken, disjoint_groups, taken_of, top_left
from tocsin.phase import wrap
from tocsin.phase_palette import palette_colours
from training.datasets.deepcube import DeepCube
from training.datasets.hephaestus import Annotation, Hephaestus, read_annotation
from training.datasets.interferogram import folds

FRAME = "014A_07688_131313"
ERTA_ALE = f"africa_erta_ale_{FRAME}_erta_ale_20161031_20170204_184_118_0.png"
ANNOTATION = {
    "uniqueID": 19912,
    "frameID": "103A_07010_121313",
    "primary_date": "20210414",
    "secondary_date": "20210426",
    "corrupted": 0,
    "processing_error": 0,
    "glacier_fringes": 0,
    "orbital_fringes": 0,
    "atmospheric_fringes": 2,
    "low_coherence": 0,
    "no_info": 0,
    "image_artifacts": 0,
    "label": ["Non_Deformation"],
    "activity_type": [],
    "intensity_level": ["None"],
    "phase": "Rest",
    "confidence": 0.8,
    "segmentation_mask": [],
    "is_crowd": 0,
    "caption": "No deformation activity can be detected.",
}
DEFORMING = {
    "label": ["Deformation"],
    "activity_type": ["Sill", "Dyke"],
    "intensity_level": ["Low", "High"],
    "segmentation_mask": [[2, 3, 12, 3, 12, 9, 2, 9], [10.7, 5, 20, 5, 20, 15, 10, 15]],
}


def ramp(rows=60, cols=70):
    """Return smooth wrapped phase, float32."""
    row, col = np.mgrid[:rows, :cols]
    return wrap((0.11 * row + 0.07 * col).astype(np.float32))


def coloured(phase):
    """Return phase painted in the palette of LiCSAR."""
    return np.rint(palette_colours()[1][np.floor((phase + 3.15) / 0.025).astype(int)]).astype(np.uint8)


@pytest.fixture
def cube(tmp_path):
    """Make both subsets of DeepCube with two pictures each."""
    grey = np.rint((ramp() + math.pi) / (2 * math.pi) * 255).astype(np.uint8)
    quiet = "usa_crater_lake_115D_04800_131313_crater_lake_20170506_20170611.geo.diff_pha_crop.png"
    pictures = {f"S1/Train/1/{ERTA_ALE}": np.repeat(grey[..., None], 3, axis=2), f"S1/Test/0/{quiet}": grey}
    pictures |= {"C1/1/Cerro_Azul_20160125_20160406.geo.diff1_0.png": coloured(ramp())}
    pictures |= {"C1/0/20141121_20141227.geo.diff1_2.png": coloured(ramp(40, 50))}
    for name, pixels in pictures.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "C1/0/readme.txt").write_text("not a picture")
    return tmp_path


@pytest.mark.parametrize(("subset", "tolerance"), [("S1", 0.0125), ("C1", 0.026)])
def test_pictures_are_found_labelled_and_inverted(cube, subset, tolerance):
    """Labels come from folders, names are relative paths, phase comes back within a step of grey or colour."""
    chips = {chip.name: chip for chip in DeepCube(cube, subset).chips()}
    assert {name.split("/")[-2]: chip.label for name, chip in chips.items()} == {"0": 0, "1": 1}
    for chip in chips.values():
        phase = chip.picture.phase
        assert np.abs(wrap(phase - ramp(*phase.shape))).max() < tolerance
        assert chip.picture.rendering == ("grey" if subset == "S1" else "palette_24bit")


def test_subsets_are_not_mistaken_for_each_other(cube):
    """A coloured picture among the grey ones is refused: its luma would fold phase."""
    (cube / "C1/1/Cerro_Azul_20160125_20160406.geo.diff1_0.png").rename(cube / "S1/Test/0/wrong.png")
    with pytest.raises(WrongUnitsError, match=r"wrong\.png"):
        DeepCube(cube, "S1").read("Test/0/wrong.png")


def test_folders_without_classes_are_refused(tmp_path):
    """A folder without 0 and 1 is not DeepCube."""
    with pytest.raises(UsageError, match="0 and 1"):
        DeepCube(tmp_path, "C1")


@pytest.mark.parametrize(
    ("name", "region", "volcano", "frame", "days"),
    [
        (ERTA_ALE, "africa", "erta_ale", FRAME, ("2016-10-31", "2017-02-04")),
        (
            "Train/0/z_russia_unnamed_031D_04324_000104_unnamed_20170313_20170325.geo.diff_pha_crop.png",
            "russia",
            "unnamed",
            "031D_04324_000104",
            ("2017-03-13", "2017-03-25"),
        ),
        (
            "mexico_comondu-la_purisima_129D_06492_131211_comondu-la_purisima_20170425_20170507.geo.diff_pha_crop.png",
            "mexico",
            "comondu_la_purisima",
            "129D_06492_131211",
            ("2017-04-25", "2017-05-07"),
        ),
        (
            "pacific_island_sierra_negra_128D_09014_090400_sierra_negra_20190714_20190726_146_197_1.png",
            "pacific_island",
            "sierra_negra",
            "128D_09014_090400",
            ("2019-07-14", "2019-07-26"),
        ),
        ("1/Cerro_Azul_20160125_20160406.geo.diff1_0.png", "", "cerro_azul", "", ("2016-01-25", "2016-04-06")),
        ("20141121_20141227.geo.diff1_2.png", "", "", "", ("2014-11-21", "2014-12-27")),
    ],
)
def test_names_tell_volcano_frame_and_days(name, region, volcano, frame, days):
    """All forms of names are read, hyphens and regions of two words included."""
    start, end = (date.fromisoformat(day) for day in days)
    assert taken_of(name) == Taken(region=region, volcano=volcano, frame=frame, start=start, end=end)


@pytest.mark.parametrize("name", ["picture.png", "20171399_20180101.png", "20180101_20170101.png"])
def test_names_in_another_form_tell_nothing(name):
    """No name, no such day or a pair backwards: nothing is invented."""
    assert taken_of(name) == Taken()


def test_half_a_pair_is_no_pair():
    """One day without the other, and a frame in another form, are refused by the model itself."""
    with pytest.raises(ValidationError, match="missing"):
        Taken(start=date(2020, 1, 1))
    with pytest.raises(ValidationError):
        Taken(frame="14A")


def taken(volcano, frame="", days=(1, 2), region=""):
    """Return where and when, with days of January."""
    start, end = (date(2020, 1, day) for day in days)
    return Taken(region=region, volcano=volcano, frame=frame, start=start, end=end)


def test_groups_share_neither_volcano_nor_pair():
    """One volcano, one pair of a frame, and chains of both belong together; other days of a frame do not."""
    other = "079D_07694_131313"
    items = [
        taken("erta_ale", FRAME, (1, 13)),
        taken("bora_ale", FRAME, (1, 13)),
        taken("bora_ale", other, (3, 15)),
        taken("adwa", FRAME, (13, 25)),
        taken("etna", other, (1, 13)),
    ]
    assert disjoint_groups(items) == (0, 0, 0, 1, 2)


def test_unnamed_volcanoes_of_two_regions_are_two():
    """Unnamed is no place of its own."""
    items = [taken("unnamed", FRAME, (day, day + 1), region) for day, region in ((1, "russia"), (5, "chile"))]
    assert disjoint_groups(items) == (0, 1)


def test_an_unknown_frame_may_be_any():
    """Pictures without a frame join all pictures of their days."""
    items = [
        taken("", "", (1, 13)),
        taken("", "", (1, 13)),
        taken("taal", FRAME, (1, 13)),
        taken("taal", FRAME, (2, 9)),
    ]
    assert disjoint_groups([*items, taken("", "", (3, 4)), Taken(), Taken()]) == (0, 0, 0, 0, 1, 2, 3)


def test_folds_keep_groups_whole_and_spread_labels():
    """No group lies in two folds; positives and negatives are spread as evenly as groups allow."""
    groups = [0] * 6 + [1] * 6 + [2] * 20 + [3] * 20 + [4] * 4
    labels = [1] * 12 + [0] * 44
    fold = np.array(folds(groups, labels, 2))
    assert all(len(set(fold[np.array(groups) == group])) == 1 for group in range(5))
    assert np.bincount(fold[:12]).tolist() == [6, 6]
    assert sorted(np.bincount(fold[12:]).tolist()) == [20, 24]
    assert folds([], [], 3) == ()


def test_odd_sizes_are_cut_or_filled_from_the_top_left():
    """A square is cut as the published loader does; what lies outside is NaN."""
    phase = ramp(30, 300)
    square = top_left(phase, 224)
    assert square.shape == (224, 224)
    np.testing.assert_array_equal(square[:30], phase[:, :224])
    assert np.isnan(square[30:]).all()


def annotation(**changes):
    """Return an annotation with some fields changed."""
    return Annotation.model_validate(ANNOTATION | changes)


def test_annotations_are_read_as_published():
    """The published example is read whole; a bare label and numbers for days are accepted too."""
    quiet = annotation()
    assert (quiet.pair, quiet.deforming, quiet.usable) == ("20210414_20210426", False, True)
    assert not annotation(processing_error=1).usable
    one = annotation(**DEFORMING | {"label": "Deformation", "primary_date": 20210402})
    assert one.deforming
    assert one.primary_date == date(2021, 4, 2)


def test_one_flat_polygon_is_one_polygon():
    """Upstream writes a single polygon without its outer list."""
    one = annotation(**DEFORMING | {"activity_type": ["Mogi"], "segmentation_mask": [0, 0, 4, 0, 4, 4]})
    assert one.segmentation_mask == ((0, 0, 4, 0, 4, 4),)
    assert one.mask((6, 6)).max() == 1


def test_polygons_are_burnt_as_column_and_row():
    """In a polygon x runs along columns, borders belong to the polygon, the later polygon lies on top."""
    mask = annotation(**DEFORMING).mask((30, 40))
    expected = np.zeros((30, 40), np.uint8)
    expected[3:10, 2:13], expected[5:16, 10:21] = 3, 2
    np.testing.assert_array_equal(mask, expected)
    assert not annotation().mask((5, 5)).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"atmospheric_fringes": 4},
        {"activity_type": ["Volcano", "Dyke"]},
        {"activity_type": ["Dyke"]},
        {"segmentation_mask": [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7]]},
        {"primary_date": "2021-14-04"},
        {"frameID": "Etna"},
        {"surprise": 1},
    ],
)
def test_annotations_in_another_form_are_refused(tmp_path, changes):
    """Unknown fields, sources or days, half points and polygons without source raise with the field's name."""
    path = tmp_path / "7.json"
    path.write_text(json.dumps(ANNOTATION | DEFORMING | changes))
    with pytest.raises(UsageError, match=r"7\.json"):
        read_annotation(path)
    path.write_text("{")
    with pytest.raises(UsageError, match=r"7\.json"):
        read_annotation(path)


def test_annotated_pictures_are_found_in_the_published_layout(tmp_path):
    """Annotation, picture and mask come together; pictures that cannot be judged are left out, missing ones raise."""
    notes, raw = tmp_path / "annotations", tmp_path / "raw"
    notes.mkdir()
    for number, changes in {"9": DEFORMING, "10": {}, "11": {"corrupted": 1}}.items():
        entry = ANNOTATION | changes | {"uniqueID": int(number), "secondary_date": f"202105{number.zfill(2)}"}
        (notes / f"{number}.json").write_text(json.dumps(entry))
    for number, name in (("09", "20210414_20210509.geo.diff.png"), ("10", "InSAR.png")):
        folder = raw / ANNOTATION["frameID"] / "interferograms" / f"20210414_202105{number}"
        folder.mkdir(parents=True)
        Image.fromarray(coloured(ramp())).save(folder / name)
    data = Hephaestus(notes, raw)
    assert data.names() == ("9", "10", "11")
    found = list(data.chips())
    assert [(one.chip.name, one.chip.label) for one in found] == [("9", 1), ("10", 0)]
    assert found[0].mask.shape == found[0].chip.picture.phase.shape == (60, 70)
    assert set(np.unique(found[0].mask)) == {0, 2, 3}
    assert found[0].chip.taken.frame == ANNOTATION["frameID"]
    with pytest.raises(UsageError, match="20210414_20210511"):
        data.read("11")
    with pytest.raises(UsageError, match="no annotations"):
        Hephaestus(raw, raw)


@pytest.mark.data
def test_real_names_are_all_understood(data):
    """Every name tells its days, every S1 name its volcano and frame; upstream's Test shares volcanoes with Train."""
    for subset in ("S1", "C1"):
        names = DeepCube(data / "deepcube", subset).names()
        facts = [taken_of(name) for name in names]
        assert all(fact.start for fact in facts)
        if subset == "S1":
            assert all(fact.volcano and fact.frame for fact in facts)
            train = {fact.place for name, fact in zip(names, facts, strict=True) if name.startswith("Train")}
            leaked = [fact.place in train for name, fact in zip(names, facts, strict=True) if name.startswith("Test")]
            assert sum(leaked) > len(leaked) / 2
