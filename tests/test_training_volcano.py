"""Volcano training: simulated chips, renderings, prototypes, pseudo-labels, and a whole tiny recipe."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("lightning", reason="needs the extra train")
pytest.importorskip("matplotlib", reason="needs the extra train")

from tocsin.errors import UsageError  # noqa: E402 - after the skips: they need torch
from tocsin.phase_palette import cut_to, palette_colours  # noqa: E402
from tocsin.phase_pictures import from_colours  # noqa: E402
from tocsin.simulate import SOURCES, NumpyRandom, interferogram  # noqa: E402
from training import checkpoints, volcano  # noqa: E402
from training.adaptation import Labelled, adapted, pooled_features, pseudo_labels, views  # noqa: E402
from training.datasets.relief import ReliefTiles  # noqa: E402
from training.datasets.simulated_interferograms import Draw, SimulatedInterferograms  # noqa: E402
from training.networks import parameter_count  # noqa: E402
from training.networks.encoders import EncoderConfig  # noqa: E402
from training.networks.volcano import GAMMA, VolcanoConfig, VolcanoNetwork  # noqa: E402
from training.objectives.prototypes import distance_cross_entropy, pull  # noqa: E402
from training.phase_augmentation import PhaseAugmentation, augment_phase  # noqa: E402
from training.phase_rendering import as_hues, as_palette, blended_noise, resultant, without_white  # noqa: E402
from training.preprocess import encode_phase  # noqa: E402
from training.recipe import RECIPES, read_recipe  # noqa: E402
from training.volcano_recipe import Adaptation, VolcanoRecipe  # noqa: E402

CHIP = 224
SMALL = {"family": "resnet", "widths": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "stem_width": 8}
TINY = {
    "hazard": "volcano",
    "name": "volcano",
    "version": "0.0.1",
    "seed": 5,
    "network": {"encoder": SMALL, "mask_width": 8},
    "data": {"simulated_chips": 6, "calibration_chips": 8, "srtm3": None, "series": None},
    "stage": {"name": "simulated", "steps": 3, "batch": 2},
    "adaptation": {"hidden": [4], "steps": 3, "batch": 8, "views": 2},
    "precision": "32-true",
}
FAMILIES = [
    {"family": "resnet"},
    {"family": "resnet", "bottleneck": True, "widths": [32, 64, 128, 256], "depths": [3, 4, 6, 3]},
    {"family": "swin", "widths": [16, 32, 64, 128], "heads": [1, 2, 4, 8]},
    {"family": "deit", "widths": [48], "depths": [4], "heads": [3]},
    {"family": "cvt", "widths": [16, 32, 64], "depths": [1, 2, 3], "heads": [1, 2, 4]},
]


@pytest.fixture(scope="module")
def pool():
    """Return six simulated chips."""
    return SimulatedInterferograms(Draw(6, 100))


@pytest.fixture(scope="module")
def network():
    """Return a small untrained network."""
    torch.manual_seed(1)
    return VolcanoNetwork(VolcanoConfig.model_validate(TINY["network"])).eval()


@pytest.fixture
def data(tmp_path):
    """Return a folder with a DeepCube of twelve grey pictures of phase ramps and rings."""
    rows, cols = np.mgrid[:CHIP, :CHIP].astype(np.float32)
    for subset, label, number in ((s, y, n) for s in ("C1", "S1") for y in (0, 1) for n in range(3)):
        far = np.hypot(rows - 100 - 10 * number, cols - 90) if label else rows + number * cols
        phase = (0.15 * far + number) % (2 * math.pi)
        folder = tmp_path / "data" / "deepcube" / subset / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        day = f"2016{1 + 2 * label:02d}{1 + number:02d}"
        name = f"volcano{number}_{day}_2018010{1 + number}.png"
        if subset == "S1":
            Image.fromarray(np.clip(phase / (2 * math.pi) * 255, 1, 254).astype(np.uint8)).save(folder / name)
        else:
            _, colours = palette_colours()
            step = np.clip(phase / (2 * math.pi) * 251, 0, 251).astype(np.intp)
            levels = cut_to(np.rint(colours).astype(np.int64), 3)[step]
            Image.fromarray(levels.astype(np.uint8)).save(folder / name)
    return tmp_path / "data"


def test_simulated_chips_are_those_of_their_seeds(pool):
    """Sample n is the scene of seed first + n, exact to half a step of the bytes that keep it."""
    scene = interferogram(NumpyRandom(103), (CHIP, CHIP))
    chip = pool[3]
    known = np.isfinite(scene.wrapped_rad)
    apart = np.abs(np.exp(1j * chip.phase[known]) - np.exp(1j * scene.wrapped_rad[known]))
    assert np.array_equal(np.isnan(chip.phase), ~known)
    assert apart.max() < 0.0125
    assert np.array_equal(chip.mask, scene.mask)
    assert chip.source == (-1 if scene.source_name == "none" else SOURCES.index(scene.source_name))


def test_simulated_chips_come_back_from_the_cache(tmp_path):
    """A second run reads what the first one drew, and another draw is not taken for it."""
    first = SimulatedInterferograms(Draw(2, 7), tmp_path)
    again, other = SimulatedInterferograms(Draw(2, 7), tmp_path), SimulatedInterferograms(Draw(2, 9), tmp_path)
    assert np.array_equal(first[1].phase, again[1].phase, equal_nan=True)
    assert not np.array_equal(first[0].phase, other[0].phase, equal_nan=True)


def test_relief_without_tiles_is_refused(tmp_path):
    """A folder without tiles is a clear error."""
    with pytest.raises(UsageError, match="hgt"):
        ReliefTiles(tmp_path)


@pytest.mark.data
def test_relief_is_land_of_the_size_asked_for(data_folder_srtm3):
    """Crops have the shape asked for, mostly land, no void, and heights that exist on Earth."""
    tiles = ReliefTiles(data_folder_srtm3)
    random = np.random.default_rng(0)
    for pixel_m in (80.0, 200.0, 350.0):
        crop = tiles.crop(random, pixel_m, 64)
        assert crop.shape == (64, 64)
        assert (crop > 0).mean() >= 0.3
        assert np.isfinite(crop).all()
        assert crop.max() < 5000


@pytest.fixture
def data_folder_srtm3(request):
    """Return the folder of SRTM3 tiles among the public data sets."""
    import os

    return Path(os.environ["TOCSIN_DATA"]) / "srtm3"


def test_palette_gives_what_a_preview_gives_back():
    """Smooth phase drawn in the palette and read again is what the augmentation makes of it."""
    phase = np.tile(np.linspace(-3, 3, CHIP, dtype=np.float32), (CHIP, 1))
    steps, colours = palette_colours()
    nearest = np.abs(phase[..., None] - steps).argmin(axis=2)
    picture = from_colours(
        cut_to(np.rint(colours).astype(np.int64), 3)[nearest].astype(np.uint8), np.ones(phase.shape, np.bool_), "test"
    )
    drawn = as_palette(phase, np.random.default_rng(0))
    known = np.isfinite(picture.noisy_phase)
    assert np.abs(drawn - picture.noisy_phase)[known].max() < 0.03
    assert np.abs(np.angle(np.exp(1j * (drawn - phase)))).max() < 0.22


def test_noise_in_a_preview_blends_into_few_colours():
    """Pure noise comes back in the few phases that blended colours stand for, the commonest in almost half of it."""
    random = np.random.default_rng(3)
    noise = random.uniform(-math.pi, math.pi, (CHIP, CHIP)).astype(np.float32)
    values, counts = np.unique(np.round(blended_noise(), 3), return_counts=True)
    drawn = as_palette(noise, random)
    blended = resultant(noise) < 0.5
    assert 0.4 < counts.max() / counts.sum() < 0.55
    assert np.isin(np.round(drawn[blended], 3), values).all()


def test_hues_and_white_touch_only_what_they_should():
    """Hues move phase by at most half a step; white paper takes its own interval alone."""
    phase = np.linspace(-3, 3, 1000, dtype=np.float32)[None]
    assert np.abs(as_hues(phase, 0.3) - phase).max() <= math.pi / 16 + 1e-5
    missing = np.isnan(without_white(phase))
    assert np.array_equal(missing, (phase > -0.575) & (phase < -0.375))


def test_augmentation_moves_mask_and_phase_alike():
    """Wherever a marked pixel goes, its mask goes; phase keeps its differences but for the sign."""
    phase = np.zeros((CHIP, CHIP), np.float32)
    phase[20, 40] = 1.0
    mask = phase > 0.5
    plain = PhaseAugmentation(palette_share=0, hue_share=0, white_share=0, border_share=0)
    for seed in range(8):
        moved, moved_mask = augment_phase(phase, mask, plain, np.random.default_rng(seed))
        row, col = np.argwhere(moved_mask)[0]
        step = math.remainder(float(moved[row, col] - moved[0, 0]), 2 * math.pi)
        assert moved_mask.sum() == 1
        assert abs(abs(step) - 1) < 1e-5
        assert np.abs(moved).max() <= np.float32(math.pi) + 1e-6


def test_augmentation_keeps_missing_pixels_missing():
    """No change invents phase where there was none."""
    phase = np.full((CHIP, CHIP), np.nan, np.float32)
    changed, _ = augment_phase(
        phase, np.zeros(phase.shape, np.bool_), PhaseAugmentation(palette_share=1), np.random.default_rng(0)
    )
    assert np.isnan(changed).all()


def test_prototype_losses_have_their_closed_forms():
    """On a prototype the pull is 0; halfway between both the cross-entropy is log 2; else as written."""
    prototypes = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]])
    middle, own = torch.tensor([[1.0, 5, 0]]), torch.tensor([[2.0, 0, 0]])
    label = torch.tensor([1])
    assert pull(own, prototypes, label) == 0
    assert pull(middle, prototypes, label) == 26
    assert distance_cross_entropy(middle, prototypes, label) == pytest.approx(math.log(2))
    assert distance_cross_entropy(own, prototypes, label) == pytest.approx(math.log1p(math.exp(-GAMMA * 4)), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family["family"] + "-" + str(len(family)))
def test_every_encoder_learns_through_every_head(family):
    """Outputs have their shapes, and the gradient of all three reaches the stem."""
    built = VolcanoNetwork(VolcanoConfig(encoder=EncoderConfig.model_validate(family)))
    said = built(torch.zeros(2, 3, CHIP, CHIP).normal_(generator=torch.Generator().manual_seed(0)))
    assert [tuple(part.shape) for part in said] == [(2,), (2, len(SOURCES)), (2, 1, CHIP, CHIP), (2, 3)]
    (said.deformation.sum() + said.source.square().sum() + said.mask.mean()).backward()
    first = next(built.encoder.parameters())
    assert float(first.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    "config",
    [{"family": "swin", "widths": [16, 32, 64]}, {"family": "deit"}, {"family": "resnet", "depths": [2, 2]}],
    ids=["swin", "deit", "resnet"],
)
def test_an_encoder_with_the_wrong_number_of_stages_is_refused(config):
    """Each family has its number of stages, said in the error."""
    with pytest.raises(ValueError, match="stages"):
        EncoderConfig.model_validate(config)


def test_a_stage_of_cvt_with_too_few_blocks_is_refused():
    """Building it would end in an index error inside the library."""
    with pytest.raises(ValueError, match="blocks"):
        EncoderConfig.model_validate({"family": "cvt", "widths": [8, 8, 8], "depths": [1, 1, 2], "heads": [1, 1, 1]})


def test_a_trained_network_does_not_know_which_way_is_up(network, pool):
    """Turned by a quarter, a chip keeps its probability and its place; without averaging over turns it does not."""
    phase = pool[2].phase
    turned = np.ascontiguousarray(np.rot90(phase))
    upright, sideways = (network(encode_phase(torch.from_numpy(each)[None, None])) for each in (phase, turned))
    assert torch.allclose(upright.embedding, sideways.embedding, atol=1e-5)
    plain = VolcanoNetwork(network.config.model_copy(update={"turns": 1})).eval()
    plain.load_state_dict(network.state_dict())
    apart = [plain(encode_phase(torch.from_numpy(each)[None, None])).embedding for each in (phase, turned)]
    assert not torch.allclose(*apart, atol=1e-5)


def test_views_are_turns_mirrors_and_signs():
    """The first view is the picture itself, the next its mirror image; all sixteen differ."""
    phase = np.arange(9, dtype=np.float32).reshape(3, 3) + 1
    seen = views(phase, 16)
    assert np.array_equal(seen[0], phase)
    assert np.array_equal(seen[1], phase[:, ::-1])
    assert len({view.tobytes() for view in seen}) == 16


def test_adaptation_changes_the_projection_alone(network):
    """Encoder, prototypes, mask and source keep their weights, the given network too; the classes come apart."""
    random = torch.Generator().manual_seed(2)
    features = torch.randn(40, 16, generator=random)
    labels = (features[:, 0] > 0).long()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = Adaptation(hidden=(16,), steps=150, batch=32, learning_rate=1e-2)
    changed = adapted(network, Labelled(features, labels), Labelled(features, labels), settings, seed=1)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        if not name.startswith("projection."):
            assert torch.equal(value, changed.state_dict()[name])
    called = changed.decide(changed.projection(features)) > 0
    assert float((called == labels.bool()).float().mean()) > 0.9


def test_pseudo_labels_are_those_of_the_nearest_prototype(network):
    """With one view a pseudo-label is the class of the nearer prototype."""
    features = torch.randn(10, 1, 16, generator=torch.Generator().manual_seed(4))
    places = network.projection(features[:, 0])
    nearest = torch.cdist(places, network.prototypes).argmin(dim=1)
    assert torch.equal(pseudo_labels(network, features), nearest)


def test_pooled_features_do_not_depend_on_the_batch(network, pool):
    """A picture has the same features alone and among others."""
    phase = np.stack([pool[index].phase for index in range(4)])
    together, alone = pooled_features(network, phase), pooled_features(network, phase[2:3])
    assert torch.allclose(together[2], alone[0], atol=1e-5)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("volcano*.yaml")), ids=lambda path: path.stem)
def test_shipped_volcano_recipes_fit_the_budget(path):
    """Every volcano recipe is valid, and its FP32 weights with the adapted projection stay within 15 MB."""
    recipe = read_recipe(path.stem)
    hidden = recipe.adaptation.hidden if recipe.adaptation else ()
    assert 4 * parameter_count(VolcanoNetwork(recipe.network.model_copy(update={"projection": hidden}))) < 15e6


def test_a_recipe_becomes_a_checkpoint_with_figures_held_out(tmp_path, data):
    """The whole chain runs: figures before and after adaptation, plots, a checkpoint that loads into its network."""
    trained = volcano.train(VolcanoRecipe.model_validate(TINY), tmp_path / "work" / "volcano", data)
    facts, weights = checkpoints.load(trained.checkpoint)
    built = VolcanoNetwork(VolcanoConfig.model_validate(facts.architecture.config))
    built.load_state_dict(weights)
    report = json.loads(trained.report.read_text())
    for stage in ("prototypes", "adapted_without_place", "adapted_without_picture"):
        counts = report[stage]["C1"]["figures"]["counts"]
        assert sum(counts.values()) == 6
    assert facts.architecture.parameters == parameter_count(built)
    assert {row.dataset[:11] for row in facts.metrics} == {"DeepCube C1", "DeepCube S1"}
    assert set(facts.output_calibrations) == {"mask"}
    for name in ("prototypes.png", "activations.png"):
        assert (trained.checkpoint.parent / name).stat().st_size > 0


def test_no_real_label_reaches_the_weights(tmp_path, data, monkeypatch):
    """Exchanging the real labels changes the figures and not one weight."""
    recipe = VolcanoRecipe.model_validate(TINY)
    honest = volcano.train(recipe, tmp_path / "a" / "volcano", data)
    read = volcano.read_real

    def exchanged(*arguments):
        real = read(*arguments)
        return replace(real, pictures=tuple(replace(each, label=1 - each.label) for each in real.pictures))

    monkeypatch.setattr(volcano, "read_real", exchanged)
    swapped = volcano.train(recipe, tmp_path / "b" / "volcano", data)
    one, other = (checkpoints.load(each.checkpoint)[1] for each in (honest, swapped))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert honest.facts.metrics != swapped.facts.metrics


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, data, monkeypatch):
    """Stopped after two steps and resumed, the network is the one of an uninterrupted run, bit for bit."""
    monkeypatch.setattr("training.stages.RESUME_EVERY", 2)
    recipe = VolcanoRecipe.model_validate(TINY)
    whole = volcano.learn(volcano.prepare(recipe, tmp_path / "a" / "volcano", data))
    run = volcano.prepare(recipe, tmp_path / "b" / "volcano", data)
    volcano.learn(run)
    for path in run.work.glob("*.safetensors"):
        path.unlink()
    again = volcano.learn(replace(run, resume=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_training_without_real_pictures_is_refused(tmp_path):
    """Without data there is nothing to judge the network by, and the error says so."""
    with pytest.raises(UsageError, match="TOCSIN_DATA"):
        volcano.train(VolcanoRecipe.model_validate(TINY), tmp_path, None)
