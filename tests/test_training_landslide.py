"""Landslide training: pairs drawn once, what is held out, losses, both stages, figures, and a whole tiny recipe."""

import dataclasses
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("lightning", reason="needs the extra train")

from tocsin.errors import UsageError  # noqa: E402 - after the skips: they need torch
from tocsin.grid import Grid, Window  # noqa: E402
from tocsin.hazards.landslide import CHIP, CHIP_KM2  # noqa: E402
from tocsin.landslide_cells import COUNT_ERROR  # noqa: E402
from tocsin.raster.aligned import align  # noqa: E402
from training import checkpoints, landslide, landslide_figures  # noqa: E402
from training.datasets import burst_chips, landslide_pairs  # noqa: E402
from training.datasets.burst_chips import BurstChips, Scarred, finer, heads_within, place_of  # noqa: E402
from training.datasets.landslide_pairs import Draw, LandslidePairs  # noqa: E402
from training.landslide_augmentation import augment_pair  # noqa: E402
from training.landslide_baselines import best_of, macro_auc, vh_log_ratio  # noqa: E402
from training.landslide_recipe import LandslideAugmentation, LandslideData, LandslideRecipe  # noqa: E402
from training.networks.landslide import LandslideConfig, LandslideNetwork  # noqa: E402
from training.objectives.density import count_loss  # noqa: E402
from training.recipe import read_recipe  # noqa: E402
from training.tasks.landslide import classes  # noqa: E402

TINY = {
    "hazard": "landslide",
    "name": "landslide",
    "version": "0.0.1",
    "seed": 5,
    "network": {
        "acquisition_width": 4, "side_widths": [8, 8], "embedding": 8, "widths": [8, 8], "refined": 8, "hidden": 8,
        "windows": [1, 3],
    },
    "data": {
        "training_chips": 6, "calibration_chips": 12, "test_chips": 12, "srtm3": None, "opera_rtc": None,
        "injected_share": 0.0, "forest": None,
    },
    "presence": {"name": "presence", "steps": 3, "batch": 2},
    "segmentation": {"name": "segmentation", "steps": 3, "batch": 2},
    "precision": "32-true",
}  # fmt: skip
PLAIN = LandslideAugmentation(
    all_acquisitions_share=1, smoothed_share=0, lost_band_share=0, no_dem_share=0, hole_share=0, offset_db=0
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return six simulated chips."""
    return LandslidePairs(Draw(6, 100), tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a folder of trainings, which share their pairs."""
    return tmp_path_factory.mktemp("trainings")


class Burst:
    """A burst of made-up backscatter: every date has its own level, so that dates can be told in a chip."""

    def read(self):
        """Return eight dates of 100 x 100 px."""
        random = np.random.default_rng(2)
        level = np.arange(8, dtype=np.float32)[:, None, None, None] * 0.5 - 16
        return (level + random.normal(0, 0.05, (8, 2, 100, 100))).astype(np.float32)

    def combinations(self):
        """Yield two choices of dates."""
        yield (0, 1, 2), (3, 4, 5)
        yield (1, 2, 3), (5, 6, 7)


def test_pairs_are_those_of_their_seeds(pairs, tmp_path):
    """Drawn again they are the same, from the cache too; another seed gives others, and bytes keep 0.1 dB."""
    again = LandslidePairs(Draw(6, 100), tmp_path)
    cached = LandslidePairs(Draw(6, 100), tmp_path)
    for index in range(6):
        for other in (again[index], cached[index]):
            assert np.array_equal(pairs[index].post_db, other.post_db, equal_nan=True)
            assert np.array_equal(pairs[index].mask, other.mask)
            assert np.array_equal(pairs[index].dem, other.dem, equal_nan=True)
    assert pairs.heads.tolist() == again.heads.tolist()
    assert not np.array_equal(LandslidePairs(Draw(2, 200), tmp_path)[0].post_db, pairs[0].post_db, equal_nan=True)
    values = np.array([[np.nan, -20.03, 5.06]], np.float32)
    kept = landslide_pairs._unpacked(landslide_pairs._packed(values))
    np.testing.assert_allclose(kept, values, atol=0.11)


def test_a_chip_of_a_burst_is_what_its_seed_draws():
    """Dates after come after dates before, scars change those after alone, and a seed gives one chip."""
    bursts = BurstChips([Burst()], None)
    scarred = Scarred(48, burst_chips.ScarSettings(pixel_m=30.0, landslide_share=1.0), around=True)
    chip, again = bursts.draw(4, scarred), bursts.draw(4, scarred)
    assert np.array_equal(chip.post_db, again.post_db)
    assert chip.mask.any()
    quiet = bursts.draw(4, replace(scarred, settings=burst_chips.ScarSettings(pixel_m=30.0, landslide_share=0.0)))
    assert not quiet.mask.any()
    assert quiet.heads == 0
    assert (quiet.pre_db.max(axis=(1, 2, 3)).max() < quiet.post_db.min(axis=(1, 2, 3)).min() + 0.5).all()
    assert np.isfinite(chip.pre_db).all()


def test_a_burst_is_resampled_as_a_scene_is():
    """A chip has the values that `align` gives a scene of 30 m on the model's grid, away from holes."""
    random = np.random.default_rng(3)
    values = (random.normal(-13, 3, (1, 2, 60, 60))).astype(np.float32)
    coarse = Grid(CRS.from_epsg(32611), Affine(30.0, 0, 5e5, 0, -30.0, 4e6), 60, 60)
    fine = Grid(coarse.crs, Affine(10.0, 0, 5e5, 0, -10.0, 4e6), 180, 180)

    class Whole:
        grid = coarse

        def read(self, window):
            """Return a window of the burst."""
            return values[0][:, window.row : window.row_stop, window.col : window.col_stop]

        def close(self):
            """Nothing to close."""

    given = align(Whole(), fine, "power").read(Window(20, 31, CHIP, CHIP))
    np.testing.assert_allclose(finer(values, (20, 31))[0], given, atol=0.02)


def test_missing_pixels_of_a_burst_stay_missing():
    """A hole of the product is a hole of the chip, not larger by more than a pixel, and no value is made up in it."""
    values = np.full((1, 2, 60, 60), -10.0, np.float32)
    values[:, 1, 20:25, 20:25] = np.nan
    chip = finer(values, (30, 30))
    assert np.isfinite(chip[0, 0]).all()
    assert np.isnan(chip[0, 1, 31:44, 31:44]).all()
    assert int(np.isnan(chip[0, 1]).sum()) <= 17**2
    np.testing.assert_allclose(chip[np.isfinite(chip)], -10, atol=1e-4)


def test_chips_lie_anywhere_about_a_scar():
    """A chip about a scar holds one of its pixels, at every place; heads are counted by where they lie."""
    mask = np.zeros((96, 96), np.bool_)
    mask[50, 60] = True
    random = np.random.default_rng(0)
    places = np.array([place_of(mask, random, around=True, scale=3) for _ in range(200)])
    within = np.array([150, 180]) - places
    assert ((within >= 0) & (within < CHIP)).all()
    assert (np.ptp(within, axis=0) > 100).all()
    heads = np.array([[10.0, 10.0], [9.4, 20.0], [137.6, 20.0]], np.float32)
    assert heads_within(heads, (10, 0)) == 1


def test_augmentation_moves_everything_alike():
    """Where the mask goes, backscatter and heights go; quarter turns do not happen."""
    mark = np.zeros((CHIP, CHIP), np.bool_)
    mark[10, 30] = True
    image = np.where(mark, 1.0, 0.0).astype(np.float32)
    chip = burst_chips.LandslideChip(np.tile(image, (3, 2, 1, 1)), np.tile(image, (3, 2, 1, 1)), image, mark, 1)
    seen = set()
    for seed in range(24):
        pre, post, dem, mask = augment_pair(chip, PLAIN, np.random.default_rng(seed))
        for values in (*pre.reshape(-1, CHIP, CHIP), *post.reshape(-1, CHIP, CHIP), dem):
            assert np.array_equal(values == 1, mask)
        seen.add(tuple(np.argwhere(mask)[0].tolist()))
    assert seen == {(10, 30), (117, 30), (10, 97), (117, 97)}


def test_augmentation_leaves_something_on_each_side(pairs):
    """Each side keeps one to three acquisitions, and every combination of what may be missing occurs."""
    counts, without = set(), set()
    settings = LandslideAugmentation(lost_band_share=0.5, hole_share=0)
    for seed in range(60):
        pre, post, dem, _ = augment_pair(pairs[seed % 6], settings, np.random.default_rng(seed))
        number = tuple(int(np.isfinite(side).any(axis=(1, 2, 3)).sum()) for side in (pre, post))
        assert min(number) >= 1
        counts.add(number)
        without.add((np.isnan(dem).all(), np.isnan(post[:, 0]).all(), np.isnan(post[:, 1]).all()))
    assert len(counts) == 9
    assert without >= {(True, False, False), (False, False, False), (True, True, False)}


def test_despeckling_keeps_edges_and_what_is_missing():
    """Speckle falls by half or more at least now and then, a fall of 12 dB stays where it is, no data stays no data."""
    random = np.random.default_rng(1)
    truth = np.where(np.arange(CHIP) < 64, -10.0, -22.0)
    side = (truth + random.normal(0, 1, (3, 2, CHIP, CHIP))).astype(np.float32)
    side[0, 1, 40:50, 30:90] = np.nan
    chip = burst_chips.LandslideChip(side, side, side[0, 0], np.zeros((CHIP, CHIP), np.bool_), 0)
    settings = PLAIN.model_copy(update={"smoothed_share": 1})
    left = []
    for seed in range(12):
        pre, post, dem, _ = augment_pair(chip, settings, np.random.default_rng(seed))
        assert np.isnan(pre).sum() == np.isnan(side).sum()
        assert sorted(np.isnan(post).sum(axis=(1, 2, 3))) == [0, 0, 600]
        assert np.nanstd(dem) == pytest.approx(np.nanstd(side[0, 0]), rel=1e-5)
        halves = np.split(pre if np.nanmean(pre[..., :64]) > -16 else pre[..., ::-1], 2, axis=-1)
        assert np.nanmean(halves[0]) - np.nanmean(halves[1]) == pytest.approx(12, abs=0.3)
        assert np.nanmean(halves[0][..., -1]) - np.nanmean(halves[1][..., 0]) > 9
        left.append(np.nanstd(halves[0][..., :40]))
    assert min(left) < 0.5
    assert max(left) < 1


def test_the_error_of_the_number_is_that_of_its_logarithm(pairs):
    """Expected numbers twice or half as high as the true ones are an error of ln 2; chips with few do not count."""
    heads = np.array([10, 40, 20, 3, 0, 12])
    chips = [dataclasses.replace(pairs[0], heads=int(number)) for number in heads]
    expected = np.array([20, 20, 40, 90, 1, 6])
    said = landslide_figures._counted(chips, np.log(expected / CHIP_KM2))
    assert said["chips"] == 4
    assert said["log_error"] == pytest.approx(math.log(2))
    assert said["expected"] == pytest.approx(expected.sum())
    assert said["true"] == heads.sum()
    few = landslide_figures._counted(chips[3:5], np.log(expected[3:5] / CHIP_KM2))
    assert few == {"chips": 0, "expected": pytest.approx(91), "true": 3}


def test_the_number_is_learnt_without_bias():
    """The mean of counts minimises the loss, and its closed form for one count is that of the geometric law."""
    counts = torch.tensor([0.0, 0, 0, 8])
    weight = torch.ones(4)
    means = torch.linspace(0.5, 6, 111)
    losses = [float(count_loss(mean.log().expand(4), counts, weight)) for mean in means]
    assert float(means[int(np.argmin(losses))]) == pytest.approx(2.0)
    found = count_loss(torch.tensor([math.log(3.0)]), torch.tensor([2.0]), torch.ones(1))
    assert float(found) == pytest.approx(-math.log((3 / 4) ** 2 * (1 / 4)), rel=1e-5)


def test_classes_follow_the_number_in_a_chip():
    """From 41 landslides on a chip of 1.638 km2 is high, one is low, none is none."""
    assert classes(torch.tensor([0.0, 1.0, 40.0, 41.0])).tolist() == [0, 1, 1, 2]


def test_the_log_ratio_needs_both_sides(pairs):
    """Powers are averaged before the ratio; where a side is missing there is none."""
    chip = pairs[0]
    pre, post = np.full_like(chip.pre_db, -10), np.full_like(chip.post_db, -10)
    post[0], post[1:] = -7.0, np.nan
    pre[:, :, 0, 0] = np.nan
    ratio = vh_log_ratio(replace(chip, pre_db=pre, post_db=post))
    assert np.isnan(ratio[0, 0])
    assert ratio[1, 1] == pytest.approx(3.0, abs=1e-4)


def test_the_best_number_is_chosen_by_how_it_ranks(pairs):
    """A number that knows the answer is chosen over one that does not, and its classes rank perfectly."""
    chips = [replace(pairs[0], heads=number) for number in (0, 5, 90)] * 20
    label = np.array([0, 1, 2] * 20)
    best = best_of({"constant": lambda _: 1.0, "heads": lambda chip: float(chip.heads)}, chips, label)
    assert best.name == "heads"
    assert macro_auc(best.judge(chips), label) == 1.0
    assert macro_auc(best.judge(chips[:1]), label[:1]) is None


@pytest.mark.parametrize("field", ["tiles", "bursts"])
def test_no_place_is_learnt_from_and_held_out(field):
    """A recipe that names a tile or a burst on both sides is refused; the one that ships keeps them apart."""
    with pytest.raises(ValueError, match="held out"):
        LandslideData.model_validate({field: ("A", "B"), f"{field}_held_out": ("B",)})
    shipped = read_recipe("landslide").data
    assert not {*shipped.bursts} & {*shipped.bursts_held_out}


@pytest.mark.data
def test_held_out_bursts_never_reach_the_pairs(monkeypatch, tmp_path):
    """What is drawn for training and calibration opens the bursts and tiles to learn from, and no other file."""
    opened = []
    real = burst_chips.OperaRtc

    class Watched(real):
        def one(self, burst, variant=""):
            """Note which burst is asked for."""
            opened.append(burst)
            return super().one(burst, variant)

    monkeypatch.setattr(burst_chips, "OperaRtc", Watched)
    data = Path(os.environ["TOCSIN_DATA"])
    shipped = read_recipe("landslide")
    draw = landslide._draw(shipped, data, 1, landslide.TRAINING_SEED)
    landslide_pairs._bursts.cache_clear()
    for seed in range(3):
        landslide_pairs._one(seed, replace(draw, injected_share=1.0))
    landslide_pairs._bursts.cache_clear()
    assert set(opened) == set(shipped.data.bursts)
    assert draw.tiles == shipped.data.tiles


@pytest.mark.slow
def test_a_recipe_becomes_a_checkpoint_with_figures_held_out(shared):
    """Both stages run one after the other; the checkpoint loads into its network and says what it was measured on."""
    trained = landslide.train(LandslideRecipe.model_validate(TINY), shared / "whole", None)
    facts, weights = checkpoints.load(trained.checkpoint)
    built = LandslideNetwork(LandslideConfig.model_validate(facts.architecture.config))
    built.load_state_dict(weights)
    report = json.loads(trained.report.read_text())
    assert report["simulated"]["chips"] == 12
    assert sum(report["simulated"]["per_class"]) == 12
    assert set(facts.output_calibrations) == {"mask"}
    assert all(row.split == "held out" for row in facts.metrics)
    errors = [row.value for row in facts.metrics if row.metric == COUNT_ERROR]
    counted = report["simulated"]["three"]["count"]
    assert errors == ([counted["log_error"]] if counted["chips"] else [])
    assert sorted(path.name.split("-")[0] for path in trained.checkpoint.parent.glob("*-*.safetensors")) == [
        "presence",
        "segmentation",
    ]


def test_an_interrupted_training_goes_on_to_the_same_weights(shared, monkeypatch):
    """Stopped after two steps of either stage and resumed, the network is that of an uninterrupted run, bit for bit."""
    monkeypatch.setattr("training.stages.RESUME_EVERY", 2)
    recipe = LandslideRecipe.model_validate(TINY)
    whole = landslide.learn(landslide.prepare(recipe, shared / "uninterrupted", None))
    run = landslide.prepare(recipe, shared / "interrupted", None)
    landslide.learn(run)
    for path in run.work.glob("*.safetensors"):
        path.unlink()
    again = landslide.learn(replace(run, resume=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_the_first_stage_moves_the_embedding_alone(shared):
    """No other part has seen a batch after it; the second stage moves the embedding too, but not its own head."""
    recipe = LandslideRecipe.model_validate(TINY)
    run = landslide.prepare(recipe, shared / "stages", None)
    first = landslide._stage(run, "presence", None)
    second = landslide._stage(run, "segmentation", first)
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert {"embedding.out.weight", "mask.weight"} <= moved
    assert not any(name.startswith("embedding.any") and name.endswith("weight") for name in moved)
    counters = {name: int(first[name]) for name in first if name.endswith("num_batches_tracked")}
    assert {bool(count) for name, count in counters.items() if name.startswith("embedding.")} == {True}
    assert {bool(count) for name, count in counters.items() if not name.startswith("embedding.")} == {False}


def test_training_without_its_data_is_refused(tmp_path):
    """A recipe that names relief and bursts says that their folder is missing."""
    with pytest.raises(UsageError, match="TOCSIN_DATA"):
        landslide.train(read_recipe("landslide"), tmp_path, None)
