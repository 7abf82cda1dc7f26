"""The configuration of a network, and the network that it describes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from training.networks.encoders import EncoderConfig


class NetworkConfig(BaseModel):
    """Which network, and how large."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["unet", "segformer", "encoder"] = Field(
        "unet", description="Architecture; encoder: any encoder, pretrained or not, with a light decoder."
    )
    stage: Literal["plain", "residual", "convnext"] = Field("plain", description="Stage of a U-Net; unused otherwise.")
    widths: tuple[int, ...] = Field((16, 32, 64, 128, 256), min_length=2, max_length=6, description="Channels a stage.")
    stem_stride: Literal[1, 2] = Field(1, description="2 halves the grid before the first stage of a U-Net.")
    channels_in: int = Field(4, ge=1, description="Channels of the encoded chip: bands, then their validity.")
    encoder: EncoderConfig | None = Field(None, description="Of the family encoder; its channels are those above.")
    decoder_width: int = Field(48, ge=8, le=256, description="Channels of the decoder of the family encoder.")

    @model_validator(mode="after")
    def _with_encoder(self) -> "NetworkConfig":
        if (self.family == "encoder") != (self.encoder is not None):
            raise ValueError("the family encoder has an encoder, and no other has")
        return self


def build(config: NetworkConfig) -> nn.Module:
    """Build an untrained network; seed torch before, for the same weights."""
    if config.family == "segformer":
        # transformers takes seconds to import, and only this family needs it.
        from training.networks.segformer import SegFormer

        return SegFormer(config.channels_in, config.widths)
    if config.encoder is not None:
        from training.networks.dense import DenseNetwork

        encoder = config.encoder.model_copy(update={"channels_in": config.channels_in})
        return DenseNetwork(encoder, config.decoder_width)
    from training.networks.unet import UNet

    return UNet(config.channels_in, config.widths, config.stage, config.stem_stride)


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
