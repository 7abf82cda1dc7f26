"""Readers of unlabelled chips, by layout, and the pool that they fill."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from PIL import Image

from tocsin.errors import UsageError, WrongBandsError, WrongUnitsError
from training.datasets import unlabelled_archives as archives
from training.datasets import unlabelled_phase as phase
from training.datasets import unlabelled_sar as sar
from training.datasets.unlabelled import UnlabelledChip, UnlabelledPool, tiled
from training.datasets.unlabelled_sources import Source, read_pool, read_source


def chip_of(name="chip", **layers):
    """Return a chip of such layers."""
    return UnlabelledChip(name, "place", {band: np.asarray(values, np.float32) for band, values in layers.items()})


FLAT = np.full((40, 50), -12.0)


def test_bands_are_picked_by_name_and_never_guessed():
    """A band that is not there is NaN, not its neighbour; VV-VH is made of both."""
    picked = chip_of(VH=FLAT - 6, VV=FLAT).pick(("VV", "VH_before", "VH", "VV-VH", "VV-VH_before"))
    np.testing.assert_array_equal(picked[:, 0, 0], [-12, np.nan, -18, 6, np.nan])


def test_scenes_are_parted_into_squares():
    """Squares cover a scene from its corner, none reaches beyond it, and a small scene stays as it is."""
    numbered = np.arange(40 * 50).reshape(40, 50)
    squares = list(tiled(chip_of(VV=numbered), 20))
    assert [square.shape for square in squares] == [(20, 20)] * 4
    assert sorted(int(square.layers["VV"][0, 0]) for square in squares) == [0, 20, 1000, 1020]
    assert len({square.name for square in squares}) == 4
    assert [each.shape for each in tiled(chip_of(VV=numbered), 64)] == [(40, 50)]


def test_a_pool_needs_chips_that_show_something():
    """No chip, only empty ones, a single one and an unknown band are refused, each by what it is."""
    empty, full = chip_of(VV=FLAT * np.nan), chip_of(VV=FLAT, VH=FLAT, B02=FLAT)
    with pytest.raises(UsageError, match="no unlabelled chip"):
        UnlabelledPool([], ("VV",))
    with pytest.raises(UsageError, match="3 unlabelled chips without a value"):
        UnlabelledPool([empty] * 3, ("VV",))
    with pytest.raises(UsageError, match="one unlabelled chip"):
        UnlabelledPool([full, empty], ("VV",))
    with pytest.raises(WrongBandsError, match="band 'red'"):
        UnlabelledPool([full, full], ("red",))
    pool = UnlabelledPool([full, empty, full], ("VV", "VH"))
    assert (len(pool), pool.left_out, pool.places()) == (2, 1, {"place": 2})
    assert set(pool[0].layers) == {"VV", "VH"}


def test_sen1floods11_gives_both_sensors_by_name(tmp_path, write_raster):
    """Backscatter comes with its optical acquisition, bands by their usual names, where there is one."""
    random = np.random.default_rng(0)
    for name in ("Alpha_1", "Beta_2"):
        write_raster(tmp_path / "S1Hand" / f"{name}_S1Hand.tif", random.normal(-15, 3, (2, 40, 48)).astype(np.float32))
    numbers = np.arange(1, 14, dtype=np.float32)[:, None, None] * np.full((40, 48), 100, np.float32)
    write_raster(tmp_path / "S2Hand" / "Alpha_1_S2Hand.tif", numbers)
    alpha, beta = sar.sen1floods11(tmp_path)
    assert (alpha.place, beta.place) == ("Alpha", "Beta")
    assert set(beta.layers) == {"VV", "VH"}
    assert alpha.layers["B02"][0, 0] == pytest.approx(0.02)
    assert alpha.layers["B8A"][0, 0] == pytest.approx(0.09)
    assert alpha.layers["B12"][0, 0] == pytest.approx(0.13)


def test_bursts_carry_the_acquisition_before_as_a_second_date(tmp_path, write_raster):
    """The first acquisition has no second date, the next one that of the first, in dB."""
    for day, power in (("05", 0.1), ("17", 0.01)):
        for band in ("VV", "VH"):
            name = f"OPERA_L2_RTC-S1_T137-292319-IW2_202401{day}T015858Z_20250830T120333Z_S1A_30_v1.0_{band}.tif"
            write_raster(tmp_path / name, np.full((1, 40, 40), power, np.float32))
    first, second = sar.opera_rtc(tmp_path)
    assert set(first.layers) == {"VV", "VH"}
    assert second.layers["VV"][0, 0] == pytest.approx(-20)
    assert second.layers["VV_before"][0, 0] == pytest.approx(-10)
    assert second.place == "T137-292319-IW2"


def test_terramesh_sites_have_what_is_there(tmp_path, write_raster):
    """A site without optics and height is a chip of backscatter alone."""
    for site in ("one", "two"):
        write_raster(tmp_path / "S1RTC" / f"{site}.tif", np.full((2, 32, 32), -12, np.float32))
    (tmp_path / "LULC").mkdir()
    write_raster(tmp_path / "S2L2A" / "one.tif", np.full((12, 32, 32), 1500, np.float32))
    write_raster(tmp_path / "DEM" / "one.tif", np.full((1, 32, 32), 77, np.float32))
    one, two = sar.terramesh(tmp_path)
    assert set(two.layers) == {"VV", "VH"}
    assert one.layers["B12"][0, 0] == pytest.approx(0.15)
    assert one.layers["height"][0, 0] == 77


def test_simulated_floods_have_two_dates_and_heights():
    """Scenes are those of their seeds, each a place of its own."""
    (scene,) = sar.simulated_floods(1, 64, 3)
    assert set(scene.layers) == {"VV", "VH", "VV_before", "VH_before", "height"}
    assert np.isfinite(scene.layers["height"]).all()


def test_series_give_wrapped_phase_with_heights(tmp_path):
    """Every increment but the first is a chip of its series."""
    inc = np.full((3, 5, 6), 0.02, np.float32)
    np.savez(
        tmp_path / "frame.npz",
        inc=inc,
        cml=inc.cumsum(axis=0),
        dates=np.array(["2020-01-01", "2020-01-13", "2020-01-25"]),
        lats=np.arange(5.0),
        lons=np.arange(6.0),
        dem=np.full((5, 6), 9.0),
    )
    chips = list(phase.licsar_series(tmp_path))
    assert [chip.place for chip in chips] == ["frame", "frame"]
    assert np.abs(chips[0].layers["phase"]).max() <= math.pi
    assert chips[0].layers["height"][0, 0] == 9
    with pytest.raises(UsageError, match="npz"):
        list(phase.licsar_series(tmp_path / "none"))


def test_pictures_of_hephaestus_are_read_without_annotations(tmp_path):
    """Random frames, which nobody annotated, are read as well; the place is the frame."""
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    for frame in ("124D_05291_081406", "014A_07688_131313"):
        folder = tmp_path / "Hephaestus_Raw" / frame / "interferograms" / "20200110_20200122"
        folder.mkdir(parents=True)
        Image.fromarray(grey).save(folder / "20200110_20200122.geo.diff.png")
    chips = list(phase.hephaestus(tmp_path))
    assert [chip.place for chip in chips] == ["014A_07688_131313", "124D_05291_081406"]
    assert chips[0].shape == (64, 64)
    with pytest.raises(UsageError, match="without a picture"):
        list(phase.hephaestus(tmp_path / "Hephaestus_Raw"))


@pytest.fixture
def region(tmp_path, write_raster):
    """Make one region of M3LEO with three tiles, two of them of the training split, one without coherence."""
    h5py = pytest.importorskip("h5py", reason="needs the extra train")
    folder = tmp_path / "conus"
    folder.mkdir()
    table = folder / "conus_partitions_aschips_293d95e3ee589_splits_60bands_angle09_60-20-20.csv"
    table.write_text("identifier,split\naa,train\nbb,train\ncc,test\n")
    levels = -np.arange(1, 17, dtype=np.float32)[:, None, None] * np.ones((48, 48), np.float32)
    for name in ("aa", "bb", "cc"):
        write_raster(folder / "s1grd-2020" / f"{name}.tif", levels)
    (folder / "gssic").mkdir()
    with h5py.File(folder / "gssic" / "aa.nc", "w") as file:
        file["coherence"] = np.arange(2 * 3, dtype=np.float32).reshape(2, 3, 1, 1) / 10 * np.ones((16, 16), np.float32)
        file["season"] = np.array([b"summer", b"winter"])
        file["deltadays"] = np.array([12, 24, 36])
    return folder


def test_m3leo_is_read_by_tile_and_split(region):
    """Bands are named by season and pass, coherence comes to the grid of backscatter, splits are of the table."""
    first, second = archives.m3leo(region.parent)
    assert (first.name, first.place) == ("aa", "conus")
    assert first.layers["VV_winter_asc"][0, 0] == -1
    assert first.layers["VH_winter_asc"][0, 0] == -3
    assert first.layers["VV_fall_des"][0, 0] == -14
    assert first.layers["coherence_winter_12"][5, 5] == pytest.approx(0.3)
    assert first.layers["coherence_winter_12"].shape == (48, 48)
    assert "coherence_winter_12" not in second.layers
    assert [chip.name for chip in archives.m3leo(region, "test")] == ["cc"]


def test_m3leo_in_another_form_is_refused(region, write_raster):
    """No table, no tile of the split, another number of bands, and linear power are clear errors."""
    with pytest.raises(UsageError, match="table of splits"):
        list(archives.m3leo(region / "gssic"))
    with pytest.raises(UsageError, match="no tile of split 'val'"):
        list(archives.m3leo(region, "val"))
    write_raster(region / "s1grd-2020" / "aa.tif", np.ones((16, 48, 48), np.float32) * 0.1)
    with pytest.raises(WrongUnitsError, match="linear"):
        list(archives.m3leo(region))
    write_raster(region / "s1grd-2020" / "aa.tif", np.ones((3, 48, 48), np.float32))
    with pytest.raises(WrongBandsError, match="3 bands"):
        list(archives.m3leo(region))


def test_big_earth_net_pairs_patches_by_their_metadata(tmp_path, write_raster):
    """A pair is one chip, bands of 20 m come to 10 m, and a patch without a partner is a chip by itself."""
    s1 = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_61_39"
    s2, alone = "S2A_MSIL2A_20170613T101031_61_39", "S2A_MSIL2A_20170613T101031_70_40"
    for band in ("VV", "VH"):
        write_raster(tmp_path / "BigEarthNet-S1-v1.0" / s1 / f"{s1}_{band}.tif", np.full((1, 120, 120), -9, np.float32))
    note = tmp_path / "BigEarthNet-S1-v1.0" / s1 / f"{s1}_labels_metadata.json"
    note.write_text(json.dumps({"labels": ["Pastures"], "corresponding_s2_patch": s2}))
    for name in (s2, alone):
        for band, size in (("B02", 120), ("B11", 60), ("B01", 20)):
            values = np.full((1, size, size), 2000, np.float32)
            values[0, 0, 0] = 0
            write_raster(tmp_path / "BigEarthNet-v1.0" / name / f"{name}_{band}.tif", values)
    pair, single = archives.big_earth_net(tmp_path)
    assert set(pair.layers) == {"VV", "VH", "B01", "B02", "B11"}
    assert {values.shape for values in pair.layers.values()} == {(120, 120)}
    assert pair.layers["B11"][5, 5] == pytest.approx(0.2)
    assert np.isnan(pair.layers["B11"][:2, :2]).all()
    assert single.name == alone
    assert pair.place == "S1A_IW_GRDH_1SDV_20170613T165043_33UUP"
    note.write_text("[")
    with pytest.raises(UsageError, match="labels_metadata"):
        list(archives.big_earth_net(tmp_path))
    with pytest.raises(UsageError, match="without a patch"):
        list(archives.big_earth_net(tmp_path / "BigEarthNet-v1.0" / s2 / "none"))


def test_sources_are_read_into_one_pool_with_their_licences(tmp_path, write_raster):
    """Sources are counted, places left out are not learnt from, and scenes are parted as asked."""
    for site in ("one", "two"):
        write_raster(tmp_path / "sites" / "S1RTC" / f"{site}.tif", np.full((2, 64, 64), -12, np.float32))
    (tmp_path / "sites" / "LULC").mkdir()
    sources = (
        Source(kind="terramesh", folder="sites", tile_px=32, left_out=("two",)),
        Source(kind="simulated_floods", count=2, size_px=64),
    )
    pool, facts = read_pool(sources, (tmp_path, tmp_path), ("VV", "VH"), ("height",))
    assert len(pool) == 6
    assert [(each.name, each.chips) for each in facts] == [
        ("terramesh, unlabelled", 4),
        ("simulated_floods, unlabelled", 2),
    ]
    assert "height" in pool[5].layers


def test_sources_that_are_not_there_are_refused(tmp_path):
    """No folder named, no folder of data sets, and a folder that is not there are told apart."""
    for source, data, words in (
        (Source(kind="terramesh"), tmp_path, "without a folder"),
        (Source(kind="terramesh", folder="sites"), None, "no folder of data sets"),
        (Source(kind="terramesh", folder="sites"), tmp_path, "which is no folder"),
    ):
        with pytest.raises(UsageError, match=words):
            list(read_source(source, data, tmp_path))


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "folder", "bands"),
    [
        ("sen1floods11", "sen1floods11", ("VV", "VH")),
        ("terramesh", "terramesh_sites", ("VV", "B02", "height")),
        ("licsar_series", "licsar_series", ("phase", "height")),
        ("deepcube_s1", "deepcube", ("phase",)),
        ("opera_rtc", "opera_rtc/png_2024_pre", ("VV", "VH")),
    ],
)
def test_real_data_give_chips_of_their_bands(kind, folder, bands, data):
    """The first chips of every data set at hand hold what is asked for, in its unit."""
    chips = read_source(Source(kind=kind, folder=folder, tile_px=256), data, data)
    chip = next(each for each in chips if np.isfinite(each.pick(bands)).any(axis=(1, 2)).all())
    median = np.nanmedian(chip.pick(bands)[0])
    assert -30 < median < 0 if bands[0] == "VV" else abs(median) <= math.pi
