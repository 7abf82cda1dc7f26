"""Readers of labelled chips, and the stream of batches made of them."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

from tocsin.errors import UsageError, WrongBandsError
from training.augmentation import augment, crop, lay_flood
from training.datasets import IGNORE, LabelledChip, Sen1Floods11, SimulatedFloods, TerraMeshSites
from training.datasets.mixed import MixedFloods, Pools
from training.recipe import Augmentation, read_recipe
from training.recipe_parts import Stage


@pytest.fixture
def bucket(tmp_path, write_raster):
    """Make three chips of two events in the layout of the public bucket, one of them without any valid pixel."""
    hand = tmp_path / "v1.1/data/flood_events/HandLabeled"
    random = np.random.default_rng(0)
    for name in ("Alpha_1", "Alpha_2", "Beta-Land_7"):
        s1_db = random.normal(-15, 3, (2, 40, 48)).astype(np.float32)
        s1_db[:, :4] = np.nan
        if name == "Alpha_2":
            s1_db[:] = np.nan
        label = random.integers(-1, 2, (1, 40, 48)).astype(np.float32)
        write_raster(hand / "S1Hand" / f"{name}_S1Hand.tif", s1_db)
        write_raster(hand / "LabelHand" / f"{name}_LabelHand.tif", label)
    splits = tmp_path / "v1.1/splits/flood_handlabeled"
    splits.mkdir(parents=True)
    (splits / "flood_train_data.csv").write_text(
        "Alpha_1_S1Hand.tif,Alpha_1_LabelHand.tif\nAbsent_3_S1Hand.tif,Absent_3_LabelHand.tif\n"
    )
    return tmp_path


def chip_of(label, s1_db=None, name="chip"):
    """Return a chip with the given label and backscatter that numbers its pixels."""
    label = np.asarray(label, np.int16)
    if s1_db is None:
        s1_db = np.stack([np.arange(label.size, dtype=np.float32).reshape(label.shape)] * 2)
    return LabelledChip(name, "event", s1_db, label)


def test_chips_are_found_by_layout_and_split(bucket):
    """Names come from S1Hand, splits from the official tables, from the bucket's root or from the folder itself."""
    data = Sen1Floods11(bucket)
    assert data.names() == ("Alpha_1", "Alpha_2", "Beta-Land_7")
    assert data.names("train") == ("Alpha_1",)
    assert Sen1Floods11(data.hand).names() == data.names()


def test_chips_without_a_judged_pixel_are_left_out(bucket):
    """A chip that is all NaN teaches nothing; where no band is valid nothing is judged."""
    chips = {chip.name: chip for chip in Sen1Floods11(bucket).chips()}
    assert set(chips) == {"Alpha_1", "Beta-Land_7"}
    assert chips["Beta-Land_7"].event == "Beta-Land"
    assert (chips["Alpha_1"].label[:4] == IGNORE).all()
    assert set(np.unique(chips["Alpha_1"].label)) == {-1, 0, 1}


def test_missing_layout_or_table_is_refused(bucket, tmp_path_factory):
    """A folder of another kind, and a split whose table is absent, are usage errors that say what is expected."""
    with pytest.raises(UsageError, match="S1Hand"):
        Sen1Floods11(tmp_path_factory.mktemp("empty"))
    with pytest.raises(UsageError, match="split"):
        Sen1Floods11(bucket).names("test")
    with pytest.raises(UsageError, match="LULC"):
        TerraMeshSites(bucket)


def test_terramesh_labels_water_of_the_cover_map(tmp_path, write_raster):
    """Class 1 is water, flooded vegetation is not judged, everything else is dry."""
    cover = np.tile(np.array([1, 2, 3, 9], np.float32), (1, 8, 2))
    write_raster(tmp_path / "S1RTC" / "site.tif", np.full((2, 8, 8), -12, np.float32))
    write_raster(tmp_path / "LULC" / "site.tif", cover)
    (chip,) = TerraMeshSites(tmp_path).chips()
    np.testing.assert_array_equal(chip.label[0, :4], [1, 0, IGNORE, 0])


def test_optical_bands_are_reflectance(bucket, write_raster):
    """Digital numbers become reflectance, pixels of zeros NaN; a missing file or other bands are refused."""
    data = Sen1Floods11(bucket)
    stored = np.full((13, 40, 48), 1500, np.float32)
    stored[:, 0] = 0
    stored[1, 1] = 0
    write_raster(data.hand / "S2Hand" / "Alpha_1_S2Hand.tif", stored)
    reflectance = data.read_s2("Alpha_1")
    assert reflectance.shape == (13, 40, 48)
    assert np.isnan(reflectance[:, 0]).all()
    np.testing.assert_allclose(reflectance[0, 1:], 0.15, rtol=1e-6)
    assert (reflectance[1, 1] == 0).all()
    write_raster(data.hand / "S2Hand" / "Alpha_2_S2Hand.tif", stored[:4])
    with pytest.raises(WrongBandsError, match="4 bands"):
        data.read_s2("Alpha_2")
    with pytest.raises(UsageError, match="does not exist"):
        data.read_s2("Beta-Land_7")


@pytest.mark.data
def test_real_optical_chip_is_reflectance(data):
    """The one chip at hand with Sentinel-2 holds 13 bands of plausible reflectance."""
    reflectance = Sen1Floods11(data / "sen1floods11").read_s2("Spain_7370579")
    assert reflectance.shape == (13, 512, 512)
    assert 0.02 < np.nanmedian(reflectance) < 0.5


@pytest.mark.data
def test_real_chips_are_read(data):
    """The chips at hand: the two without a judged pixel are left out, backscatter is dB."""
    chips = list(Sen1Floods11(data / "sen1floods11").chips())
    assert len(chips) == 8
    for chip in chips:
        assert chip.s1_db.shape == (2, 512, 512)
        assert -35 < np.nanmedian(chip.s1_db[1]) < -10


def test_simulated_chips_are_kept_and_reproducible(tmp_path):
    """The cache gives the scenes that drawing gives; a cache of other scenes is not taken."""
    cache = tmp_path / "cache.npz"
    drawn, read = SimulatedFloods(3, 32, 7, cache), SimulatedFloods(3, 32, 7, cache)
    for index in range(3):
        np.testing.assert_array_equal(drawn[index].s1_db, read[index].s1_db)
        np.testing.assert_array_equal(drawn[index].label, read[index].label)
    assert len(SimulatedFloods(2, 32, 7, cache)) == 2
    np.testing.assert_array_equal(SimulatedFloods(2, 32, 8)[0].label, drawn[1].label)


def test_crop_pads_small_chips_with_unjudged_nan():
    """What a crop reaches beyond the chip is NaN and not judged; inside, pixels keep their labels."""
    chip = chip_of(np.ones((10, 40)))
    cut = crop(chip, 32, np.random.default_rng(0))
    assert cut.label.shape == (32, 32)
    assert (cut.label[:10] == 1).all()
    assert (cut.label[10:] == IGNORE).all()
    assert np.isnan(cut.s1_db[:, 10:]).all()


def test_laid_flood_is_water_and_leaves_the_rest():
    """Simulated water replaces backscatter and label; pixels without it, and its NaN, leave the chip as it was."""
    real = chip_of([[0, 1], [IGNORE, 0]], np.full((2, 2, 2), -10, np.float32))
    flood_db = np.full((2, 2, 2), -25, np.float32)
    flood_db[:, 1, 1] = np.nan
    laid = lay_flood(real, chip_of([[1, 0], [1, 1]], flood_db))
    np.testing.assert_array_equal(laid.label, [[1, 1], [1, 0]])
    np.testing.assert_array_equal(laid.s1_db[0], [[-25, -10], [-25, -10]])


def test_augmentation_moves_pixels_and_labels_together():
    """After turns and mirrors every pixel still has its own label; offsets keep differences within a band."""
    settings = Augmentation(lost_band_share=0, hole_share=0)
    label = np.random.default_rng(1).integers(0, 2, (16, 16)).astype(np.int16)
    s1_db = np.stack([100.0 * label, 200.0 * label]).astype(np.float32)
    for seed in range(12):
        turned = augment(chip_of(label, s1_db), settings, np.random.default_rng(seed))
        for band, step in zip(turned.s1_db, (100.0, 200.0), strict=True):
            np.testing.assert_allclose(band - band.min(), step * turned.label, atol=1e-3)


def test_augmentation_loses_bands_and_holes_honestly():
    """A lost band is NaN in one band only; a hole is NaN in both and no longer judged."""
    chip = chip_of(np.ones((16, 16)))
    lost = augment(chip, Augmentation(lost_band_share=1, hole_share=0), np.random.default_rng(0))
    assert sorted(np.isnan(lost.s1_db).all(axis=(1, 2))) == [False, True]
    assert (lost.label == 1).all()
    holed = augment(chip, Augmentation(lost_band_share=0, hole_share=1), np.random.default_rng(0))
    hole = np.isnan(holed.s1_db).all(axis=0)
    assert 0 < hole.mean() <= 0.25
    np.testing.assert_array_equal(holed.label == IGNORE, hole)


def test_stream_is_the_same_for_the_same_seed_and_goes_on_where_it_was():
    """Batches depend on seed, stage and step alone, so that a resumed run sees what it would have seen."""
    recipe = read_recipe("flood").model_copy(
        update={"data": read_recipe("flood").data.model_copy(update={"chip_px": 32})}
    )
    stage = Stage(name="real", steps=4, batch=3, real_share=0.6)
    real = (chip_of(np.random.default_rng(0).integers(0, 2, (48, 48))),)
    pools = Pools(real, (), SimulatedFloods(4, 32, 0))
    batches, again = list(MixedFloods(pools, stage, recipe)), list(MixedFloods(pools, stage, recipe))
    assert len(batches) == 4
    assert batches[0][0].shape == (3, 2, 32, 32)
    assert batches[0][1].shape == (3, 32, 32)
    resumed = MixedFloods(pools, stage, recipe)
    resumed.first_step = 2
    for first, second in [*zip(batches, again, strict=True), *zip(batches[2:], resumed, strict=True)]:
        np.testing.assert_array_equal(first[0].numpy(), second[0].numpy())
    assert not np.array_equal(batches[0][0].numpy(), batches[1][0].numpy())
