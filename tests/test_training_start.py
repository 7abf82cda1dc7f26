"""Beginning from a pretrained encoder: frozen, with low-rank updates, or learning as a whole."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("lightning", reason="needs the extra train")
pytest.importorskip("peft", reason="needs the extra train")

from safetensors.torch import load_file  # noqa: E402 - after the skips: they need torch

from tocsin import __version__  # noqa: E402
from tocsin.errors import ModelInvalidError, UsageError, WrongBandsError  # noqa: E402
from tocsin.manifest import DataSource, Training  # noqa: E402
from training import volcano  # noqa: E402
from training.beginning import COST  # noqa: E402
from training.datasets import LabelledChip, SimulatedFloods  # noqa: E402
from training.encoder_checkpoints import EncoderFacts, save_encoder  # noqa: E402
from training.fit import Run, fit, predict  # noqa: E402
from training.networks import NetworkConfig, build  # noqa: E402
from training.networks.bands import BandEncoder  # noqa: E402
from training.networks.encoders import EncoderConfig, build_encoder  # noqa: E402
from training.recipe import Recipe  # noqa: E402
from training.start import Start, adapt, begin, merge  # noqa: E402
from training.volcano_recipe import VolcanoRecipe  # noqa: E402

VIT = {"family": "vit", "widths": [16], "depths": [2], "heads": [2], "patch_px": 8, "chip_px": 32, "channels_in": 4}
RESNET = {"family": "resnet", "widths": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "stem_width": 8, "chip_px": 32}
RANK = 2
CHIP = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def encoder():
    """Return a tiny vision transformer of VV and VH with their validity."""
    torch.manual_seed(0)
    return build_encoder(EncoderConfig.model_validate(VIT)).eval()


def checkpoint(folder, config, bands=("VV", "VH")):
    """Write the checkpoint of an encoder with random weights, and return its path and the encoder."""
    torch.manual_seed(5)
    network = BandEncoder(bands, EncoderConfig.model_validate(config))
    source = DataSource(name="simulation", chips=1, licence="Apache-2.0", attribution="Simulated by tocsin.")
    facts = EncoderFacts(
        encoder=network.config,
        modality="s1",
        bands=bands,
        method="mae",
        steps=1,
        spread=0.5,
        training=Training(data=(source,), seed=5, recipe={"name": "tiny"}),
        tocsin=__version__,
    )
    path = folder / "pretrained" / "encoder_s1.safetensors"
    save_encoder(path, network, facts)
    return path, network


def test_what_learns_is_what_was_asked_for():
    """Nothing of a frozen encoder learns, all of a full one, and of LoRA rank times (in + out) of every layer named."""
    counts = {}
    for learns in ("frozen", "lora", "full"):
        network = encoder()
        adapt(network, Start(learns=learns, rank=RANK))
        counts[learns] = sum(each.numel() for each in network.parameters() if each.requires_grad)
    assert counts["frozen"] == 0
    assert counts["lora"] == 2 * 4 * RANK * (16 + 16)
    assert counts["full"] == sum(each.numel() for each in encoder().parameters())


def test_low_rank_updates_start_at_nothing_and_leave_no_trace():
    """Before a step features are those of the encoder; merged, those of the updated one, under the old names."""
    plain, updated = encoder(), encoder()
    adapt(updated, Start(learns="lora", rank=RANK))
    with torch.inference_mode():
        torch.testing.assert_close(plain(CHIP)[-1], updated(CHIP)[-1])
    with torch.no_grad():
        for name, each in updated.named_parameters():
            if "lora_B" in name:
                each.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        said = updated(CHIP)[-1]
    assert not torch.allclose(said, plain(CHIP)[-1], atol=1e-2)
    assert 0 <= merge(updated, CHIP) <= 1e-4
    assert updated.state_dict().keys() == plain.state_dict().keys()
    with torch.inference_mode():
        torch.testing.assert_close(updated(CHIP)[-1], said, rtol=1e-4, atol=1e-4)


def test_a_merge_that_changes_what_is_said_is_refused(monkeypatch):
    """When merged weights say something else the stage ends with an error, not with other weights."""
    from peft.tuners.lora import Linear

    network = encoder()
    adapt(network, Start(learns="lora", rank=RANK))

    def wrong(layer, **_):
        layer.get_base_layer().weight.data += 1

    monkeypatch.setattr(Linear, "merge", wrong)
    with pytest.raises(ModelInvalidError, match="apart after low-rank updates"):
        merge(network, CHIP)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"rank": 17}, "rank 17 for .*; expected a rank of at most 16"),
        ({"targets": ["query"]}, "LoRA targets query.*k_proj, o_proj, q_proj, v_proj"),
        ({"targets": ["layernorm"]}, "LoRA targets layernorm"),
    ],
)
def test_updates_that_a_layer_cannot_have_are_refused(start, words):
    """A rank larger than the layer, a name that is not there and a layer that is not linear: each is a usage error."""
    with pytest.raises(UsageError, match=words):
        adapt(encoder(), Start.model_validate({"learns": "lora"} | start))


def test_a_network_without_attention_says_so():
    """LoRA on a residual network names no layer, and the error says what there is."""
    network = build_encoder(EncoderConfig.model_validate(RESNET | {"channels_in": 4}))
    with pytest.raises(UsageError, match="this encoder has none"):
        adapt(network, Start(learns="lora"))


def test_pretrained_weights_are_found_and_must_fit(tmp_path):
    """Weights load from a path below --out; no file, other bands and another shape are refused."""
    path, pretrained = checkpoint(tmp_path, VIT)
    start = Start(encoder="pretrained/encoder_s1.safetensors")
    network = encoder()
    begin(network, ("VV", "VH"), start, tmp_path)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, pretrained.encoder.state_dict()[name], rtol=0, atol=0)
    with pytest.raises(UsageError, match="no file"):
        begin(network, ("VV", "VH"), start, tmp_path / "elsewhere")
    with pytest.raises(WrongBandsError, match="for VV, VH"):
        begin(network, ("VH", "VV"), start, tmp_path)
    wide = build_encoder(EncoderConfig.model_validate(VIT | {"widths": [32]}))
    with pytest.raises(ModelInvalidError, match="another shape"):
        begin(wide, ("VV", "VH"), Start(encoder=str(path)), tmp_path)


def flood_recipe(config, start, steps=3):
    """Return a tiny flood recipe over an encoder."""
    return Recipe.model_validate(
        {
            "hazard": "flood",
            "name": "flood",
            "version": "0.0.1",
            "seed": 3,
            "network": {"family": "encoder", "encoder": config, "decoder_width": 8},
            "normalisation": {"low": [-40, -45], "high": [15, 10], "mean": [-11.3, -18.5], "std": [4.8, 5.8]},
            "data": {"simulated_chips": 4, "chip_px": 32},
            "stages": [
                {"name": "simulated", "steps": steps, "batch": 2},
                {"name": "real", "steps": steps, "batch": 2, "real_share": 0.5},
            ],
            "start": start,
            "precision": "32-true",
        }
    )


@pytest.fixture(scope="module")
def simulated():
    """Return four small simulated chips."""
    return SimulatedFloods(4, 32, 0)


@pytest.fixture
def chips():
    """Return two chips of noise, half of them water."""
    random = np.random.default_rng(2)
    values = random.normal(-15, 3, (2, 2, 64, 64)).astype(np.float32)
    return tuple(
        LabelledChip(f"Alpha_{n}", "Alpha", s1_db, (s1_db[0] < -15).astype(np.int16)) for n, s1_db in enumerate(values)
    )


@pytest.mark.parametrize(("config", "learns"), [(VIT, "frozen"), (RESNET, "frozen"), (VIT, "lora"), (RESNET, "full")])
def test_a_flood_model_learns_from_a_pretrained_encoder(config, learns, tmp_path, chips, simulated):
    """Both stages run; a frozen encoder ends as it began, running statistics included; costs are written down."""
    _, pretrained = checkpoint(tmp_path, config)
    start = {"encoder": "pretrained/encoder_s1.safetensors", "learns": learns, "rank": RANK}
    recipe = flood_recipe(config, start)
    weights = fit(Run(recipe, tmp_path / "flood", chips, (), simulated), recipe.stages)
    assert weights.keys() == build(recipe.network).state_dict().keys()
    before = pretrained.encoder.state_dict()
    same = [torch.equal(tensor, weights[f"encoder.{name}"]) for name, tensor in before.items()]
    assert all(same) if learns == "frozen" else not all(same)
    (cost,) = [json.loads(path.read_text()) for path in (tmp_path / "flood").glob(f"real-*/{COST}")]
    assert cost["learns"] == learns
    assert (cost["trainable"] == cost["parameters"]) == (learns == "full")
    assert cost["peak_bytes"] > 0
    assert cost["seconds_per_step"] > 0
    assert ("merged_apart" in cost) == (learns == "lora")
    said = predict(recipe, weights, chips[:1])[0]
    assert said.shape == (64, 64)
    assert torch.isfinite(said).all()


def test_a_start_without_an_encoder_to_start_is_refused():
    """Only a network of the family encoder can begin so, and it has to say which."""
    given = flood_recipe(VIT, None).model_dump(mode="json")
    with pytest.raises(ValueError, match="start needs network"):
        Recipe.model_validate(given | {"network": {"widths": [4, 8]}, "start": {"learns": "frozen"}})
    with pytest.raises(ValueError, match="family encoder"):
        NetworkConfig(family="encoder")


@pytest.mark.parametrize("learns", ["lora", "frozen"])
def test_a_volcano_model_learns_from_a_pretrained_encoder(learns, tmp_path):
    """What is kept is a plain network, in which a frozen encoder is the pretrained one and an updated one is not."""
    config = VIT | {"chip_px": 224, "patch_px": 32, "channels_in": 3}
    _, pretrained = checkpoint(tmp_path, config, ("phase",))
    recipe = VolcanoRecipe.model_validate(
        {
            "hazard": "volcano",
            "name": "volcano",
            "version": "0.0.1",
            "seed": 5,
            "network": {"encoder": config, "mask_width": 8, "turns": 1},
            "stage": {"name": "simulated", "steps": 2, "batch": 2, "learning_rate": 1e-2},
            "average_decay": 0.1,
            "start": {"encoder": "pretrained/encoder_s1.safetensors", "learns": learns, "rank": RANK},
            "precision": "32-true",
        }
    )
    from training.datasets.real_phase import RealPictures
    from training.datasets.simulated_interferograms import Draw, SimulatedInterferograms

    pool = SimulatedInterferograms(Draw(3, 100))
    real = RealPictures((), (), np.empty((0, 224, 224), np.float32))
    network = volcano.learn(volcano.Run(recipe, tmp_path / "volcano", real, pool, pool))
    before = pretrained.encoder.state_dict()
    assert network.encoder.state_dict().keys() == before.keys()
    same = [torch.equal(tensor, network.encoder.state_dict()[name]) for name, tensor in before.items()]
    assert all(same) == (learns == "frozen")
    (kept,) = (tmp_path / "volcano").glob("simulated-*.safetensors")
    assert load_file(kept).keys() == network.state_dict().keys()
    assert math.isfinite(float(network.prototypes.detach().sum()))


@pytest.mark.parametrize("learns", ["frozen", "lora"])
def test_a_landslide_model_learns_from_a_pretrained_encoder(learns, tmp_path):
    """Both stages run over an encoder in place of the U-Net of a side; what is kept is a plain network."""
    from training import landslide
    from training.landslide_recipe import LandslideRecipe

    config = VIT | {"chip_px": 128, "patch_px": 16}
    _, pretrained = checkpoint(tmp_path, config)
    recipe = LandslideRecipe.model_validate(
        {
            "hazard": "landslide",
            "name": "landslide",
            "version": "0.0.1",
            "seed": 5,
            "network": {"encoder": config, "side_widths": [8], "widths": [8, 8], "hidden": 8, "refined": 4},
            "data": {
                "training_chips": 2, "calibration_chips": 4, "test_chips": 4, "injected_share": 0,
                "srtm3": None, "opera_rtc": None, "forest": None,
            },
            "presence": {"name": "presence", "steps": 2, "batch": 2},
            "segmentation": {"name": "segmentation", "steps": 2, "batch": 2, "learning_rate": 1e-2},
            "average_decay": 0.1,
            "start": {"encoder": "pretrained/encoder_s1.safetensors", "learns": learns, "rank": RANK},
            "precision": "32-true",
        }
    )  # fmt: skip
    network = landslide.learn(landslide.prepare(recipe, tmp_path / "landslide", None))
    before, after = pretrained.encoder.state_dict(), network.embedding.encoder.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()) == (learns == "frozen")
    costs = [json.loads(path.read_text()) for path in sorted((tmp_path / "landslide").glob(f"*/{COST}"))]
    assert [each["learns"] for each in costs] == [learns, learns]


@pytest.mark.parametrize("name", ["lora_flood", "lora_flood_small", "simclr_volcano_small"])
def test_shipped_recipes_begin_from_encoders_of_their_shape(name):
    """The small ones name the checkpoint of a pretraining that ships, with the same encoder; ranks fit its layers."""
    from training.recipe import read_recipe

    recipe = read_recipe(name)
    own = recipe.network.encoder
    folder = recipe.start.encoder.split("/")[0]
    assert recipe.start.rank <= min(own.widths)
    if name.endswith("_small"):
        taught = read_recipe(folder)
        sizes = {"chip_px", "channels_in"}
        assert taught.encoder.model_dump(exclude=sizes) == own.model_dump(exclude=sizes)
        assert recipe.start.encoder == f"{folder}/encoder_{next(iter(taught.modalities))}.safetensors"
