"""Encoders of transformers by configuration: a chip in, feature maps out, finest first.

Shape suffixes: B batch, C channels, H rows, W columns, L tokens.
"""

from abc import ABC, abstractmethod
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

Family = Literal["resnet", "swin", "deit", "cvt"]

# The fused kernel has no ONNX form.
PLAIN_ATTENTION: Final[dict[str, Any]] = {"attn_implementation": "eager"}


class EncoderConfig(BaseModel):
    """Which encoder, and how large; weights start at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family = Field(
        "resnet", description="resnet: ResNet-D (He et al. 2019); swin; deit; cvt: a ViT with convolutions."
    )
    widths: tuple[int, ...] = Field(
        (32, 64, 128, 224), min_length=1, max_length=4, description="Channels a stage; one for deit, three for cvt."
    )
    depths: tuple[int, ...] = Field(
        (2, 2, 2, 2),
        min_length=1,
        max_length=4,
        description="Blocks a stage: (2, 2, 2, 2) in ResNet18, (3, 4, 6, 3) in ResNet34 or ResNet50.",
    )
    heads: tuple[int, ...] = Field(
        (2, 4, 8, 16), min_length=1, max_length=4, description="Attention heads a stage; unused by resnet."
    )
    bottleneck: bool = Field(default=False, description="Bottleneck blocks in a resnet, as in ResNet50.")
    stem_width: int = Field(32, ge=8, le=128, description="Channels of a resnet's stem.")
    channels_in: int = Field(3, ge=1, description="Channels of the encoded chip: cosine, sine, validity.")
    chip_px: int = Field(224, ge=32, multiple_of=32, description="Rows and columns of a chip.")

    @model_validator(mode="after")
    def _fits_its_family(self) -> "EncoderConfig":
        stages = {"resnet": 4, "swin": 4, "deit": 1, "cvt": 3}[self.family]
        if not len(self.widths) == len(self.depths) == stages:
            raise ValueError(f"{self.family} has {stages} stages: give so many widths and depths")
        if self.family != "resnet" and len(self.heads) != stages:
            raise ValueError(f"{self.family} has {stages} stages: give so many heads")
        if self.family == "cvt" and any(depth < stage for stage, depth in enumerate(self.depths, start=1)):
            # transformers looks up the stage's number among the rates of its blocks.
            raise ValueError(f"depths {self.depths}; a stage of cvt has at least as many blocks as its number")
        return self


class Encoder(nn.Module, ABC):
    """A network of transformers whose feature maps are asked for by one name.

    Attributes
    ----------
    channels, strides
        Of the feature maps, finest first; a stride is chip pixels a feature pixel.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @abstractmethod
    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips [B, C, H, W] to feature maps, each [B, C_i, H / stride_i, W / stride_i]."""


def build_encoder(config: EncoderConfig) -> Encoder:
    """Build an encoder with random weights; seed torch before, for the same ones."""
    builders: dict[Family, Any] = {
        "resnet": ResNetEncoder,
        "swin": SwinEncoder,
        "deit": DeiTEncoder,
        "cvt": CvtEncoder,
    }
    encoder: Encoder = builders[config.family](config)
    return encoder


class ResNetEncoder(Encoder):
    """ResNet (He et al. 2016) with averaging shortcuts (He et al. 2019, ResNet-D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        self.body = ResNetModel(
            ResNetConfig(
                num_channels=config.channels_in,
                embedding_size=config.stem_width,
                hidden_sizes=list(config.widths),
                depths=list(config.depths),
                layer_type="bottleneck" if config.bottleneck else "basic",
            )
        )
        _average_in_shortcuts(self.body)
        self.channels, self.strides = config.widths, (4, 8, 16, 32)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips to feature maps of strides 4, 8, 16, 32."""
        return list(self.body(x_BCHW, output_hidden_states=True).hidden_states[1:])


class SwinEncoder(Encoder):
    """Swin transformer (Liu et al. 2021)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        from transformers import SwinConfig, SwinModel

        if any(wide != config.widths[0] * 2**stage for stage, wide in enumerate(config.widths)):
            raise ValueError(f"widths {config.widths}; a Swin transformer doubles them at every stage")
        self.body = SwinModel(
            SwinConfig(
                image_size=config.chip_px,
                num_channels=config.channels_in,
                embed_dim=config.widths[0],
                depths=list(config.depths),
                num_heads=list(config.heads),
                window_size=7,
                **PLAIN_ATTENTION,
            ),
            add_pooling_layer=False,
        )
        self.channels, self.strides = config.widths, (4, 8, 16, 32)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips to feature maps of strides 4, 8, 16, 32."""
        states = self.body(x_BCHW, output_hidden_states=True).reshaped_hidden_states
        # The states are those before each merging of patches; the last one is kept without merging.
        kept = {state.shape[-1]: state for state in states}
        return [kept[size] for size in sorted(kept, reverse=True)]


class DeiTEncoder(Encoder):
    """Vision transformer as in DeiT (Touvron et al. 2021); maps of four depths, all of stride 16."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        from transformers import DeiTConfig, DeiTModel

        self.body = DeiTModel(
            DeiTConfig(
                image_size=config.chip_px,
                num_channels=config.channels_in,
                hidden_size=config.widths[0],
                num_hidden_layers=config.depths[0],
                num_attention_heads=config.heads[0],
                intermediate_size=4 * config.widths[0],
                **PLAIN_ATTENTION,
            ),
            add_pooling_layer=False,
        )
        self.side = config.chip_px // 16
        quarter = config.depths[0] / 4
        self.taken = tuple(round(quarter * (index + 1)) for index in range(4))
        self.channels, self.strides = 4 * config.widths, (16, 16, 16, 16)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips to four feature maps of stride 16, of rising depth."""
        states = self.body(x_BCHW, output_hidden_states=True).hidden_states
        return [self._map(states[index]) for index in self.taken]

    def _map(self, state_BLC: Tensor) -> Tensor:
        # The class and distillation tokens come first.
        tokens_BCL = state_BLC[:, 2:].transpose(1, 2)
        return tokens_BCL.reshape(*tokens_BCL.shape[:2], self.side, self.side)


class CvtEncoder(Encoder):
    """Convolutional vision transformer (Wu et al. 2021)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        from transformers import CvtConfig, CvtModel

        self.body = CvtModel(
            CvtConfig(
                num_channels=config.channels_in,
                embed_dim=list(config.widths),
                depth=list(config.depths),
                num_heads=list(config.heads),
                cls_token=[False, False, False],
            )
        )
        self.channels, self.strides = config.widths, (4, 8, 16)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips to feature maps of strides 4, 8, 16."""
        return list(self.body(x_BCHW, output_hidden_states=True).hidden_states)


def _average_in_shortcuts(module: nn.Module) -> None:
    """Put an average before every strided 1 x 1 convolution, which would skip three pixels of four."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) and child.stride != (1, 1):
            plain: Any = nn.Conv2d(child.in_channels, child.out_channels, 1, bias=child.bias is not None)
            setattr(module, name, nn.Sequential(nn.AvgPool2d(child.stride[0]), plain))
        else:
            _average_in_shortcuts(child)
