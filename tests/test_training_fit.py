"""Recipes, losses, stages, held-out events and calibration."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("lightning", reason="needs the extra train")

from pydantic import ValidationError  # noqa: E402 - after the skips: they need torch

from tocsin.errors import UsageError  # noqa: E402
from training import checkpoints, flood, held_out  # noqa: E402
from training.calibration import fit_temperature  # noqa: E402
from training.datasets import IGNORE, LabelledChip, SimulatedFloods  # noqa: E402
from training.fit import Run, fit, predict  # noqa: E402
from training.networks import NetworkConfig, build, parameter_count  # noqa: E402
from training.objectives.segmentation import cross_entropy_and_dice  # noqa: E402
from training.recipe import RECIPES, Recipe, read_recipe  # noqa: E402
from training.recipe_parts import Stage  # noqa: E402

TINY = {
    "hazard": "flood",
    "name": "flood",
    "version": "0.0.1",
    "seed": 3,
    "network": {"widths": [4, 8], "stem_stride": 2},
    "normalisation": {"low": [-40, -45], "high": [15, 10], "mean": [-11.3, -18.5], "std": [4.8, 5.8]},
    "data": {"simulated_chips": 6, "chip_px": 32},
    "stages": [
        {"name": "simulated", "steps": 3, "batch": 2},
        {"name": "real", "steps": 4, "batch": 2, "real_share": 0.5},
    ],
    "precision": "32-true",
}


@pytest.fixture(scope="module")
def simulated():
    """Return six small simulated chips."""
    return SimulatedFloods(6, 32, 0)


@pytest.fixture
def chips():
    """Return chips of three events: VH below -21 dB is water, with noise on top."""
    random = np.random.default_rng(2)
    made = []
    for index, event in enumerate(("Alpha", "Alpha", "Beta", "Gamma")):
        label = (random.random((64, 64)) < 0.3).astype(np.int16)
        vh_db = np.where(label == 1, -26, -16) + random.normal(0, 1, label.shape)
        label[:3] = IGNORE
        s1_db = np.stack([vh_db + 7, vh_db]).astype(np.float32)
        made.append(LabelledChip(f"{event}_{index}", event, s1_db, label))
    return tuple(made)


@pytest.fixture
def run(tmp_path, chips, simulated):
    """Return a run of the tiny recipe."""
    return Run(Recipe.model_validate(TINY), tmp_path, chips, (), simulated)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("flood*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_fit_the_budget(path):
    """Every flood recipe is valid, and its FP32 weights stay within 15 MB."""
    recipe = read_recipe(path.stem)
    assert 4 * parameter_count(build(recipe.network)) < 15e6


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"stages": []},
        {"data": {"sen1floods11": None}},
        {"data": {"chip_px": 40}},
        {"network": {"family": "unet", "widths": [8]}},
    ],
)
def test_wrong_recipes_are_refused(tmp_path, change):
    """Unknown keys, no stage, real chips without a data set, sizes that do not divide: each is a usage error."""
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**TINY, **change}))
    with pytest.raises(UsageError, match=r"wrong\.yaml"):
        read_recipe(path)


def test_recipe_is_frozen():
    """A recipe does not change after it was read."""
    recipe = Recipe.model_validate(TINY)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 4


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(widths=(4, 8, 8)),
        NetworkConfig(stage="residual", widths=(4, 8), stem_stride=2),
        NetworkConfig(stage="convnext", widths=(4, 8)),
        NetworkConfig(family="segformer", widths=(8, 16, 40, 64)),
    ],
    ids=lambda config: f"{config.family}-{config.stage}",
)
def test_networks_keep_the_grid(config):
    """Every family maps [B, 4, H, W] to finite logits [B, 1, H, W] and passes gradients to all its weights."""
    torch.manual_seed(0)
    network = build(config)
    logits = network(torch.randn(2, 4, 64, 96))
    assert logits.shape == (2, 1, 64, 96)
    logits.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_loss_has_its_closed_form():
    """One judged water pixel at probability p costs -log p plus the soft Jaccard loss; unjudged pixels cost nothing."""
    logits = torch.tensor([[[0.7, 5.0]]])
    label = torch.tensor([[[1, IGNORE]]])
    probability = 1 / (1 + np.exp(-0.7))
    expected = -np.log(probability) + 0.5 * (1 - (probability + 1) / 2)
    assert cross_entropy_and_dice(logits, label, 0.5).item() == pytest.approx(expected, rel=1e-6)
    changed = torch.tensor([[[0.7, -9.0]]])
    assert cross_entropy_and_dice(changed, label, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_temperature_is_recovered():
    """Logits that were multiplied by 2.5 are divided by 2.5 again, and the calibration error falls."""
    random = np.random.default_rng(0)
    honest = torch.from_numpy(random.normal(0, 2, 200_000))
    water = (torch.from_numpy(random.random(200_000)) < torch.sigmoid(honest)).double()
    fitted = fit_temperature(honest * 2.5, water, torch.ones(200_000))
    assert fitted.temperature == pytest.approx(2.5, rel=0.03)
    assert fitted.error_after < 0.01 < fitted.error_before
    assert fitted.nll_after < fitted.nll_before


def test_same_seed_same_weights(run, tmp_path):
    """Two trainings in two folders end with identical weights; another seed does not."""
    first = fit(run, run.recipe.stages)
    second = fit(replace(run, work=tmp_path / "again"), run.recipe.stages)
    other = fit(
        replace(run, work=tmp_path / "other", recipe=run.recipe.model_copy(update={"seed": 4})), run.recipe.stages
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_finished_stages_are_taken_as_they_are(run):
    """The first stage sees no real chip, so that runs on other events share its weights; the second is their own."""
    fit(run, run.recipe.stages)
    kept = {path.name: path.stat().st_mtime_ns for path in run.work.glob("*.safetensors")}
    fit(replace(run, real=run.real[:2]), run.recipe.stages)
    now = {path.name: path.stat().st_mtime_ns for path in run.work.glob("*.safetensors")}
    assert {name: now[name] for name in kept} == kept
    assert len([name for name in now if name.startswith("simulated")]) == 1
    assert len([name for name in now if name.startswith("real")]) == 2


def test_kept_share_lies_between_the_stages(run):
    """With a kept share the weights are the stated mean of those before and after the real stage."""
    before, after = fit(run, run.recipe.stages[:1]), fit(run, run.recipe.stages)
    kept = run.recipe.model_copy(update={"kept_share": 0.25})
    halfway = fit(replace(run, recipe=kept), kept.stages)
    for name, tensor in halfway.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.25 * before[name] + 0.75 * after[name])
    assert len(list(run.work.glob("*.safetensors"))) == 2


def test_interrupted_stage_goes_on_to_the_same_weights(run, tmp_path, monkeypatch):
    """A stage that is stopped half-way and resumed ends where the whole one ends."""
    stage = Stage(name="long", steps=12, batch=2)
    monkeypatch.setattr("training.stages.RESUME_EVERY", 5)
    whole = fit(replace(run, work=tmp_path / "whole"), [stage])

    class Stopped(Exception):  # noqa: N818 - not an error of the product
        """The power goes."""

    def stop(self, batch, index):
        if self.trainer.global_step >= 7:
            raise Stopped
        return original(self, batch, index)

    original = flood_task().training_step
    monkeypatch.setattr(flood_task(), "training_step", stop)
    with pytest.raises(Stopped):
        fit(run, [stage])
    monkeypatch.setattr(flood_task(), "training_step", original)
    resumed = fit(replace(run, resume=True), [stage])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def flood_task():
    """Return the class of the flood task."""
    from training.tasks.flood import FloodTask

    return FloodTask


def test_early_stopping_watches_its_event_and_keeps_the_best(run):
    """With patience one and an IoU that does not rise, the stage ends before its steps."""
    steps = []
    recipe = Recipe.model_validate(
        {
            **TINY,
            "stages": [{"name": "real", "steps": 40, "batch": 2, "learning_rate": 1e-12, "real_share": 1.0}],
            "early_stopping": {"event": "Gamma", "every": 2, "patience": 1},
        }
    )
    task = flood_task()
    original = task.training_step
    task.training_step = lambda self, batch, index: steps.append(index) or original(self, batch, index)
    try:
        watched = tuple(chip for chip in run.real if chip.event == "Gamma")
        learnt = tuple(chip for chip in run.real if chip.event != "Gamma")
        fit(replace(run, recipe=recipe, real=learnt, watched=watched), recipe.stages)
    finally:
        task.training_step = original
    assert 2 < len(steps) < 40


def test_no_network_sees_the_event_it_is_judged_on(run, monkeypatch):
    """Each event is judged by weights whose training chips hold none of it, the watched ones included."""
    recipe = Recipe.model_validate({**TINY, "early_stopping": {"event": "Beta"}})
    seen = []

    def spy(given, stages):
        seen.append(({chip.event for chip in given.real}, {chip.event for chip in given.watched}))
        return build(recipe.network).state_dict()

    monkeypatch.setattr(held_out, "fit", spy)
    judged = held_out.leave_one_event_out(replace(run, recipe=recipe))
    # The first stage alone is asked for once, before: it takes no real chip.
    assert seen[1:] == [({"Gamma"}, {"Beta"}), ({"Alpha", "Gamma"}, set()), ({"Alpha"}, {"Beta"})]
    assert [each.chip.name for each in judged] == ["Alpha_0", "Alpha_1", "Beta_2", "Gamma_3"]


def test_a_first_stage_with_real_chips_is_not_called_simulated(run, monkeypatch):
    """Where the first stage learns from real chips no network is asked for that learnt from all events at once."""
    recipe = Recipe.model_validate({**TINY, "stages": TINY["stages"][1:]})
    seen = []

    def spy(given, stages):
        seen.append({chip.event for chip in given.real})
        return build(recipe.network).state_dict()

    monkeypatch.setattr(held_out, "fit", spy)
    judged = held_out.leave_one_event_out(replace(run, recipe=recipe))
    assert seen == [{"Beta", "Gamma"}, {"Alpha", "Gamma"}, {"Alpha", "Beta"}]
    assert all(each.simulated is None for each in judged)


def test_prediction_is_of_the_weights_given(run):
    """Whole chips give logits of their own size, the same for the same weights."""
    weights = fit(run, run.recipe.stages[:1])
    first, second = (predict(run.recipe, weights, run.real[:1])[0] for _ in range(2))
    assert first.shape == (64, 64)
    assert torch.equal(first, second)


@pytest.mark.slow
def test_a_recipe_runs_from_beginning_to_end(tmp_path, write_raster, chips, monkeypatch):
    """A training leaves a checkpoint with calibration and figures beside Otsu, and a report of every held-out chip."""
    hand = tmp_path / "sen1floods11/v1.1/data/flood_events/HandLabeled"
    for chip in chips:
        write_raster(hand / "S1Hand" / f"{chip.name}_S1Hand.tif", chip.s1_db)
        write_raster(hand / "LabelHand" / f"{chip.name}_LabelHand.tif", chip.label[None].astype(np.float32))
    monkeypatch.setattr("training.flood.SIMULATED_SEED", 0)
    recipe = Recipe.model_validate(TINY)
    trained = flood.train(recipe, tmp_path / "work", tmp_path)
    facts, weights = checkpoints.load(trained.checkpoint)
    assert facts == trained.facts
    assert facts.calibration.kind == "temperature"
    assert [row.baseline_name for row in facts.metrics] == ["Otsu on VH per chip"] * 2
    assert facts.metrics[0].baseline_value > 0.9
    build(recipe.network).load_state_dict(weights)
    report = json.loads(Path(trained.report).read_text())
    assert 0 <= report["simulated_only_pooled_iou"] <= 1
    assert [chip["chip"] for chip in report["chips"]] == ["Alpha_0", "Alpha_1", "Beta_2", "Gamma_3"]


def test_training_without_data_is_refused(tmp_path):
    """Without a folder of data sets nothing is drawn and nothing written."""
    with pytest.raises(UsageError, match="TOCSIN_DATA"):
        flood.train(Recipe.model_validate(TINY), tmp_path / "work", None)
    assert not (tmp_path / "work").exists()
