"""Encoders by configuration and by local folder; bands by name."""

import json
import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from pydantic import ValidationError  # noqa: E402 - after the skips: they need torch

from tocsin.errors import ModelInvalidError, WrongBandsError  # noqa: E402
from training.bands import BANDS, band_of  # noqa: E402
from training.networks.bands import BandEncoder  # noqa: E402
from training.networks.encoders import EncoderConfig, build_encoder  # noqa: E402
from training.preprocess import encode, encode_phase  # noqa: E402

CHIP = 64
FAMILIES = {
    "resnet": {"family": "resnet", "widths": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "stem_width": 8},
    "convnext": {"family": "convnext", "widths": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "swin": {"family": "swin", "widths": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "heads": [1, 2, 2, 2]},
    "vit": {"family": "vit", "widths": [24], "depths": [2], "heads": [2], "patch_px": 8},
    "deit": {"family": "deit", "widths": [24], "depths": [2], "heads": [2]},
}


def tiny(family, **more):
    """Return the configuration of a tiny encoder."""
    return EncoderConfig.model_validate({**FAMILIES[family], "chip_px": CHIP, **more})


@pytest.fixture(scope="module")
def chips():
    """Return two chips of VV and VH, dB, with a hole in VV."""
    values = torch.randn(2, 2, CHIP, CHIP, generator=torch.Generator().manual_seed(0)) * 3 - 14
    values[:, 0, :9] = math.nan
    return values


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_maps_of_the_strides_that_it_states(family, chips):
    """Maps are finite, finest first, and as large and wide as stated; what stands for a chip is as wide as the last."""
    network = BandEncoder(("VV", "VH"), tiny(family)).eval()
    with torch.inference_mode():
        maps, pooled = network(chips), network.pooled(chips)
    assert [each.shape[1] for each in maps] == list(network.encoder.channels)
    assert [CHIP // each.shape[2] for each in maps] == list(network.encoder.strides)
    assert pooled.shape == (2, network.width)
    assert all(torch.isfinite(each).all() for each in (*maps, pooled))


def test_backscatter_is_encoded_as_the_flood_model_encodes_it(chips):
    """Values and validity are those of training.preprocess, so that weights move from one to the other."""
    network = BandEncoder(("VV", "VH"), tiny("resnet"))
    vv, vh = BANDS["VV"], BANDS["VH"]
    shape = (1, 2, 1, 1)
    mean, std = (torch.tensor([getattr(vv, key), getattr(vh, key)]).reshape(shape) for key in ("mean", "std"))
    clamp = torch.stack([torch.tensor([getattr(vv, k), getattr(vh, k)]).reshape(shape) for k in ("low", "high")])
    torch.testing.assert_close(network.encode(chips), encode(chips, mean, std, clamp))


def test_phase_is_encoded_as_the_volcano_model_encodes_it():
    """Cosine, sine, validity: 3.1 and -3.1 rad are neighbours, and a missing pixel is zero in all three."""
    phase = torch.tensor([3.1, -3.1, math.nan, 0.0]).reshape(1, 1, 2, 2).repeat(1, 1, 16, 16)
    encoded = BandEncoder(("phase",), tiny("resnet", chip_px=32)).encode(phase)
    torch.testing.assert_close(encoded, encode_phase(phase))


def test_a_missing_band_is_masked_and_told_from_an_average_one(chips):
    """A band of NaN gives a finite answer, another one than the same band at its average."""
    network = BandEncoder(("VV", "VH"), tiny("vit")).eval()
    missing, average = chips.clone(), chips.clone()
    missing[:, 1], average[:, 1] = math.nan, BANDS["VH"].mean
    with torch.inference_mode():
        answers = [network.pooled(each) for each in (missing, average)]
    assert torch.isfinite(answers[0]).all()
    assert not torch.allclose(*answers)


@pytest.mark.parametrize("bands", [("VV", "B2"), (), ("VV", "VV"), ("",)])
def test_unknown_and_repeated_bands_are_refused(bands):
    """A band that nobody knows is named, and nothing is guessed from its place."""
    with pytest.raises(WrongBandsError, match="band"):
        BandEncoder(bands, tiny("resnet"))


def test_what_sets_a_band_apart_does_not_change_what_it_is():
    """The second date of VH is still VH."""
    assert band_of("VH_before") is BANDS["VH"]


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_a_vision_transformer_is_that_of_transformers(family, chips):
    """At the trained size its tokens are those that the model itself returns, and its maps those of its layers."""
    network = BandEncoder(("VV", "VH"), tiny(family)).eval()
    inner, encoded = network.encoder, network.encode(chips)
    with torch.inference_mode():
        said = inner.body(encoded, output_hidden_states=True)
        torch.testing.assert_close(inner.tokens(encoded), said.last_hidden_state)
        last = said.hidden_states[-1][:, inner.first :].transpose(1, 2)
        torch.testing.assert_close(inner(encoded)[-1].flatten(2), last)


def test_only_kept_patches_go_through_the_layers(chips):
    """Tokens of half of the patches do not depend on what the other half holds."""
    network = BandEncoder(("VV", "VH"), tiny("vit")).eval()
    kept = torch.arange(32)[None].repeat(2, 1)
    changed = chips.clone()
    changed[:, :, CHIP // 2 :] += 5
    with torch.inference_mode():
        first, second = (network.encoder.tokens(network.encode(each), kept) for each in (chips, changed))
    assert first.shape == (2, 33, 24)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("family", ["vit", "deit", "resnet", "convnext"])
def test_views_smaller_than_a_chip_can_be_encoded(family):
    """Local crops of half the size give what stands for a chip too."""
    network = BandEncoder(("VV",), tiny(family)).eval()
    with torch.inference_mode():
        assert network.pooled(torch.zeros(1, 1, 32, 32)).shape == (1, network.width)


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "vit", "widths": [8, 8], "depths": [1], "heads": [1]},
        {"family": "local"},
        {"family": "resnet", "folder": "somewhere"},
        {"family": "resnet", "pooling": "class"},
        {"family": "vit", "widths": [8], "depths": [1], "heads": [1], "chip_px": 64, "patch_px": 24},
    ],
)
def test_configurations_that_do_not_fit_are_refused(wrong):
    """Stages, folder, class token and patches fit the family, or the configuration is refused."""
    with pytest.raises(ValidationError):
        EncoderConfig.model_validate(wrong)


@pytest.fixture
def folder(tmp_path):
    """Return a local folder as transformers writes it: a ViT of three bands."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(1)
    settings = ViTConfig(
        image_size=CHIP,
        patch_size=16,
        num_channels=3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    ViTModel(settings, add_pooling_layer=False).save_pretrained(tmp_path)
    return tmp_path


def test_weights_of_a_local_folder_are_used(folder):
    """The encoder of a folder says what its model says, with the bands that the recipe names."""
    from safetensors.torch import load_file

    config = EncoderConfig(family="local", folder=str(folder), chip_px=CHIP)
    network = BandEncoder(("B04", "B03", "B02"), config)
    stored = load_file(folder / "model.safetensors")
    name = "embeddings.patch_embeddings.projection.weight"
    assert network.config.channels_in == 3
    assert network.encoder.strides[-1] == 16
    torch.testing.assert_close(dict(network.encoder.body.named_parameters())[name].detach(), stored[name])


def test_a_local_encoder_is_built_again_without_its_folder(folder):
    """What config.json said is enough for a checkpoint to be loaded elsewhere."""
    first = BandEncoder(("B04", "B03", "B02"), EncoderConfig(family="local", folder=str(folder), chip_px=CHIP))
    described = json.loads((folder / "config.json").read_text())
    again = BandEncoder(("B04", "B03", "B02"), EncoderConfig(family="local", transformers=described, chip_px=CHIP))
    again.load_state_dict(first.state_dict())
    x = torch.rand(1, 3, CHIP, CHIP)
    with torch.inference_mode():
        torch.testing.assert_close(first.eval().pooled(x), again.eval().pooled(x))


def test_folders_that_hold_no_encoder_are_refused(folder, tmp_path_factory):
    """No config, no safetensors, or another number of bands: the error says which."""
    with pytest.raises(ModelInvalidError, match="3 channels, with 2 bands"):
        BandEncoder(("VV", "VH"), EncoderConfig(family="local", folder=str(folder), chip_px=CHIP))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelInvalidError, match="without safetensors"):
        BandEncoder(("B04", "B03", "B02"), EncoderConfig(family="local", folder=str(folder), chip_px=CHIP))
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ModelInvalidError, match=r"config\.json"):
        build_encoder(EncoderConfig(family="local", folder=str(empty)))
    (empty / "config.json").write_text('{"hidden_size": 4}')
    with pytest.raises(ModelInvalidError, match="model_type"):
        build_encoder(EncoderConfig(family="local", folder=str(empty)))
