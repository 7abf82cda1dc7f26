"""Methods of pretraining over any encoder, collapse, and whole tiny recipes."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("lightning", reason="needs the extra train")

from typer.testing import CliRunner  # noqa: E402 - after the skips: they need torch

from tocsin.errors import ModelInvalidError, UsageError, WrongBandsError  # noqa: E402
from training.collapse_watch import CollapseSettings, CollapseWatch  # noqa: E402
from training.datasets.unlabelled import UnlabelledChip, UnlabelledPool  # noqa: E402
from training.encoder_checkpoints import load_encoder  # noqa: E402
from training.networks.bands import BandEncoder  # noqa: E402
from training.pretrain import pretrain  # noqa: E402
from training.pretraining_recipe import PretrainingRecipe  # noqa: E402
from training.recipe import RECIPES, read_recipe  # noqa: E402
from training.tasks.pretexts import build_pretext  # noqa: E402
from training.tasks.pretexts.mae import patches  # noqa: E402
from training.tasks.pretraining import PretrainingTask, UnlabelledViews  # noqa: E402
from training.views import ViewPlan  # noqa: E402

CHIP = 64
ENCODERS = {
    "resnet": {"family": "resnet", "widths": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "stem_width": 8, "chip_px": CHIP},
    "vit": {"family": "vit", "widths": [16], "depths": [2], "heads": [2], "patch_px": 8, "chip_px": CHIP},
    "swin": {
        "family": "swin", "widths": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "heads": [1, 2, 2, 2], "chip_px": CHIP
    },
    "convnext": {"family": "convnext", "widths": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "chip_px": CHIP},
}  # fmt: skip
METHODS = {
    "simclr": {"kind": "simclr", "widths": [16, 8]},
    "barlow_twins": {"kind": "barlow_twins", "widths": [16, 8]},
    "mae": {"kind": "mae", "width": 16, "heads": 2},
    "dino": {"kind": "dino", "local": 2, "widths": [16], "bottleneck": 8, "outputs": 16},
    "clip": {"kind": "clip", "width": 8},
    "simclr_elevation": {"kind": "simclr_elevation", "widths": [16, 8], "decoder": 8, "grid_px": 8},
    "glcnet_elevation": {"kind": "glcnet_elevation", "widths": [16, 8], "decoder": 8, "grid_px": 8, "relief": True},
}


def recipe_of(method, encoder="resnet", **more):
    """Return a tiny recipe on two simulated floods."""
    modalities = {"s1": ["VV", "VH"]} if method != "clip" else {"s1": ["VV", "VH"], "before": ["VV_before"]}
    views = {"chip_px": CHIP, "local_px": 32 if encoder != "swin" else CHIP}
    given = {
        "task": "pretraining",
        "name": "tiny",
        "seed": 1,
        "modalities": modalities,
        "encoder": ENCODERS[encoder],
        "method": METHODS[method],
        "views": views,
        "data": [{"kind": "simulated_floods", "count": 3, "size_px": 96}],
        "stage": {"name": "unlabelled", "steps": 3, "batch": 3, "learning_rate": 1e-3},
        "collapse": {"every": 1, "least_spread": 0},
        "precision": "32-true",
    }
    return PretrainingRecipe.model_validate(given | more)


@pytest.fixture(scope="module")
def pool():
    """Return four chips of two bands, a second date and heights, each of another level."""
    random = np.random.default_rng(0)
    names = ("VV", "VH", "VV_before", "height")

    def layer(number):
        return (random.normal(0, 2, (96, 96)) - 10 - 3 * number).astype(np.float32)

    chips = [UnlabelledChip(f"chip {n}", "here", {name: layer(n) for name in names}) for n in range(4)]
    return UnlabelledPool(chips, ("VV", "VH", "VV_before"), ("height",))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("method", METHODS)
def test_any_encoder_takes_any_method(method, encoder, pool):
    """The loss is a number, its gradient reaches the encoder, and what stands for chips differs between them."""
    torch.manual_seed(0)
    recipe = recipe_of(method, encoder)
    task = PretrainingTask(recipe)
    views = next(iter(UnlabelledViews(pool, recipe, task.pretext.plan)))
    said = task.pretext(views)
    said.loss.backward()
    learnt = [each.grad for each in task.pretext.encoders.parameters() if each.grad is not None]
    assert math.isfinite(said.loss.item())
    assert sum(float(each.abs().sum()) for each in learnt) > 0
    assert all(torch.isfinite(each).all() for each in learnt)
    assert len(said.embedding) > 1
    assert said.embedding.detach().std(dim=0).max() > 0


def test_a_batch_shows_each_chip_once_before_any_twice(pool):
    """Two views of one chip are never negatives of each other while other chips are left."""
    stream = UnlabelledViews(pool, recipe_of("simclr"), ViewPlan())
    for count, most in ((4, 1), (6, 2)):
        drawn = stream._drawn(count, np.random.default_rng(3))
        assert len(drawn) == count
        assert max(drawn.count(index) for index in drawn) == most


def test_a_stream_goes_on_where_it_was(pool):
    """From step 1 on, batches are those that the whole stream gave."""
    recipe = recipe_of("simclr")
    whole = list(UnlabelledViews(pool, recipe, ViewPlan()))
    later = UnlabelledViews(pool, recipe, ViewPlan())
    later.first_step = 1
    for one, other in zip(whole[1:], later, strict=True):
        torch.testing.assert_close(one.whole[0], other.whole[0], equal_nan=True)


@pytest.mark.parametrize("encoder", ["vit", "resnet"])
def test_hidden_patches_are_never_seen(encoder):
    """What hidden patches hold changes the truth, and nothing that the network says of them."""
    torch.manual_seed(0)
    recipe = recipe_of("mae", encoder)
    pretext = build_pretext({"s1": BandEncoder(("VV", "VH"), recipe.encoder)}, recipe.method).eval()
    raw = torch.randn(2, 2, CHIP, CHIP) * 3 - 14
    kept, hidden = pretext._hide(2, raw.device)
    assert hidden.mean().item() == pytest.approx(0.75)
    gone = hidden.reshape(2, 1, pretext.side, pretext.side)
    gone = gone.repeat_interleave(pretext.patch_px, 2).repeat_interleave(pretext.patch_px, 3) > 0
    changed = torch.where(gone, raw + 7, raw)
    with torch.inference_mode():
        first, second = (pretext._seen(each, pretext.encoder.encode(each), kept, hidden)[0] for each in (raw, changed))
    torch.testing.assert_close(first, second)


def test_patches_are_numbered_row_by_row():
    """The patch after the first is the one to its right, and values of a band stay together."""
    numbered = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    found = patches(numbered, 2)
    assert found.shape == (1, 6, 8)
    assert found[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]


def test_what_was_never_measured_is_not_reconstructed():
    """With NaN in all hidden places the loss of a masked autoencoder is zero."""
    recipe = recipe_of("mae", "vit")
    pretext = build_pretext({"s1": BandEncoder(("VV", "VH"), recipe.encoder)}, recipe.method)
    raw = torch.full((2, 2, CHIP, CHIP), math.nan)
    assert float(pretext._measured(raw).sum()) == 0


def test_the_teacher_follows_the_student():
    """A step keeps the stated share of the teacher, more and more, and no gradient reaches it."""
    recipe = recipe_of("dino", "vit")
    pretext = build_pretext({"s1": BandEncoder(("VV", "VH"), recipe.encoder)}, recipe.method)
    assert not any(each.requires_grad for each in pretext.teacher.parameters())
    with torch.no_grad():
        pretext.head.directions.fill_(1.0)
        pretext.teacher_head.directions.fill_(0.0)
    pretext.after_step(0.0)
    torch.testing.assert_close(pretext.teacher_head.directions, torch.full((16, 8), 0.004), rtol=1e-4, atol=1e-6)
    pretext.after_step(1.0)
    torch.testing.assert_close(pretext.teacher_head.directions, torch.full((16, 8), 0.004), rtol=1e-4, atol=1e-6)
    assert pretext.taught("s1") is pretext.teacher


def test_the_teacher_warms_up():
    """Its temperature rises from the first to the second value over the stated share, then stays."""
    recipe = recipe_of("dino", "vit")
    pretext = build_pretext({"s1": BandEncoder(("VV",), recipe.encoder)}, recipe.method)
    found = []
    for share in (0.0, 0.15, 0.3, 1.0):
        pretext.share.fill_(share)
        found.append(pretext._teacher_temperature())
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_a_chip_without_a_modality_teaches_the_others_nothing_wrong(pool):
    """With the second date missing everywhere there is nothing to contrast, and the loss is zero."""
    recipe = recipe_of("clip")
    task = PretrainingTask(recipe)
    views = next(iter(UnlabelledViews(pool, recipe, task.pretext.plan)))
    views.whole[0][:, 2] = math.nan
    assert task.pretext(views).loss.item() == 0


def test_coarse_heights_are_means_of_what_is_known():
    """A cell is the mean of its pixels over the scale; one of which less than half is known is unknown."""
    recipe = recipe_of("simclr_elevation")
    pretext = build_pretext({"s1": BandEncoder(("VV",), recipe.encoder)}, recipe.method)
    height = torch.full((1, 1, CHIP, CHIP), 250.0)
    height[..., :8, :6] = math.nan
    target = pretext._target(height)
    assert target.shape == (1, 1, 8, 8)
    assert math.isnan(target[0, 0, 0, 0])
    assert target[0, 0, 5, 5].item() == pytest.approx(0.5)


@pytest.mark.parametrize("method", ["simclr", "mae", "dino", "clip"])
def test_a_recipe_leaves_an_encoder_that_can_be_loaded(method, tmp_path):
    """Checkpoint, facts and report are written; the encoder comes back with its weights, bands and configuration."""
    recipe = recipe_of(method, "vit")
    done = pretrain(recipe, tmp_path / "tiny", None)
    assert set(done.checkpoints) == set(recipe.modalities)
    encoder, facts = load_encoder(done.checkpoints["s1"])
    assert (encoder.bands, facts.method, facts.training.seed) == (("VV", "VH"), method, 1)
    report = json.loads(done.report.read_text())
    assert report["chips"] == 3
    assert [each["step"] for each in report["course"]] == [1, 2, 3]
    assert 0 < report["cost"]["trainable"] <= report["cost"]["parameters"]
    assert report["cost"]["seconds_per_step"] > 0


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    """Stopped after two steps of three and resumed, the teacher is that of an uninterrupted run, bit for bit."""
    monkeypatch.setattr("training.stages.RESUME_EVERY", 2)
    recipe = recipe_of("dino", "vit")
    whole = load_encoder(pretrain(recipe, tmp_path / "one", None).checkpoints["s1"])[0].state_dict()
    pretrain(recipe, tmp_path / "two", None)
    resumed = pretrain(recipe, tmp_path / "two", None, resume=True)
    assert [each["step"] for each in json.loads(resumed.report.read_text())["course"]] == [3]
    for name, tensor in load_encoder(resumed.checkpoints["s1"])[0].state_dict().items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=0)


def test_collapse_stops_a_run_with_a_clear_message(tmp_path):
    """A spread below what is asked for, looked at often enough, ends the run and says so; nothing is written."""
    recipe = recipe_of("simclr", collapse={"every": 1, "least_spread": 1, "patience": 2, "after_share": 0})
    with pytest.raises(ModelInvalidError, match=r"collapse.*step 2.*2 looks in a row"):
        pretrain(recipe, tmp_path / "tiny", None)
    assert not (tmp_path / "tiny" / "encoder_s1.safetensors").exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_a_run(loss):
    """The first such loss ends the run, however the embeddings look."""
    watch = CollapseWatch(CollapseSettings(), 100)
    trainer = SimpleNamespace(global_step=3, callback_metrics={"loss": torch.tensor(loss)})
    with pytest.raises(ModelInvalidError, match="at step 3"):
        watch.on_train_batch_end(trainer, SimpleNamespace(embedding=torch.randn(4, 4)))


def test_a_run_that_recovers_is_not_stopped():
    """Only looks in a row count, and none before the stated share of steps."""
    watch = CollapseWatch(CollapseSettings(every=1, patience=2, after_share=0.1), 100)
    same, apart = torch.ones(4, 4), torch.eye(4)
    for step, embedding in enumerate(
        (same, same, same, apart, apart, apart, apart, apart, apart, same, apart, same), 1
    ):
        trainer = SimpleNamespace(global_step=step, callback_metrics={"loss": torch.tensor(1.0)})
        watch.on_train_batch_end(trainer, SimpleNamespace(embedding=embedding))
    assert [step for step, _, found in watch.course if found < 0.01] == [1, 2, 3, 10, 12]
    trainer = SimpleNamespace(global_step=13, callback_metrics={"loss": torch.tensor(1.0)})
    with pytest.raises(ModelInvalidError, match="collapse"):
        watch.on_train_batch_end(trainer, SimpleNamespace(embedding=same))


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    """The first tensor that differs is named, with both shapes."""
    from training.encoder_checkpoints import fill

    wide, narrow = (BandEncoder(bands, recipe_of("mae", "vit").encoder) for bands in (("VV", "VH"), ("VV",)))
    with pytest.raises(ModelInvalidError, match=r"another shape: .*projection.weight is \(16, 4, 8, 8\)"):
        fill(narrow.encoder, wide.encoder.state_dict(), tmp_path / "wide.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modalities": {"a": ["VV"], "b": ["VH"]}}, "takes one modality"),
        ({"method": METHODS["clip"]}, "takes several modalities"),
        ({"views": {"chip_px": 96}}, "views of 96 px"),
        ({"stage": {"name": "one", "steps": 1, "batch": 1}}, "at least two chips"),
        (
            {"encoder": ENCODERS["swin"], "method": METHODS["dino"], "views": {"chip_px": 64, "local_px": 32}},
            "one size",
        ),
    ],
)
def test_recipes_whose_parts_do_not_fit_are_refused(changes, words, tmp_path):
    """Modalities, sizes and batch fit the method, or reading the recipe says what does not."""
    given = recipe_of("simclr").model_dump(mode="json") | changes
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(UsageError, match=words):
        read_recipe(path)


def test_unknown_bands_and_missing_data_are_refused(tmp_path):
    """A band that nobody knows and a folder that is not there end a run before its first step."""
    with pytest.raises(WrongBandsError, match="band 'red'"):
        pretrain(recipe_of("simclr", modalities={"s1": ["red"]}), tmp_path, None)
    with pytest.raises(UsageError, match="which is no folder"):
        pretrain(recipe_of("simclr", data=[{"kind": "terramesh", "folder": "none"}]), tmp_path, tmp_path)


def test_the_command_trains_from_a_file(tmp_path):
    """`tocsin train RECIPE` prints one JSON object that names the encoders."""
    import typer

    from training.commands import train

    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe_of("simclr", "vit").model_dump(mode="json")))
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, [str(path), "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["encoders"]["s1"].endswith("encoder_s1.safetensors")
    assert said["spread"]["s1"] > 0


PRETRAINING = sorted(path for path in RECIPES.glob("*.yaml") if "task: pretraining" in path.read_text())


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_shipped_recipes_build_their_networks(path):
    """Every recipe of a pretraining is valid, its bands are known, and the small ones are small."""
    recipe = read_recipe(path.stem)
    assert recipe.name == path.stem
    if path.stem.endswith("_small"):
        task = PretrainingTask(recipe)
        assert sum(each.numel() for each in task.pretext.encoders.parameters()) < 8_000_000


def test_every_method_ships_two_recipes():
    """For each method there is a small recipe, and one with the published setting."""
    kinds = {path.stem: read_recipe(path.stem).method.kind for path in PRETRAINING}
    small = {kind for name, kind in kinds.items() if name.endswith("_small")}
    published = {kind for name, kind in kinds.items() if not name.endswith("_small")}
    assert small == published == set(METHODS)
