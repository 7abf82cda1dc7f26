"""Encoders of transformers by configuration: a chip in, feature maps out, finest first.

Shape suffixes: B batch, C channels, H rows, W columns, L tokens.
"""

from abc import ABC, abstractmethod
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

Family = Literal["resnet", "convnext", "swin", "vit", "deit", "cvt", "local"]
STAGES: Final[dict[Family, int]] = {"resnet": 4, "convnext": 4, "swin": 4, "vit": 1, "deit": 1, "cvt": 3}

# The fused kernel has no ONNX form.
PLAIN_ATTENTION: Final[dict[str, Any]] = {"attn_implementation": "eager"}


class EncoderConfig(BaseModel):
    """Which encoder, and how large; weights start at random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family = Field(
        "resnet",
        description="resnet: ResNet-D (He et al. 2019); convnext; swin; vit; deit; cvt: with convolutions; local: "
        "what a folder of transformers holds.",
    )
    widths: tuple[int, ...] = Field(
        (32, 64, 128, 224),
        min_length=1,
        max_length=4,
        description="Channels a stage; one for vit and deit, three for cvt.",
    )
    depths: tuple[int, ...] = Field(
        (2, 2, 2, 2),
        min_length=1,
        max_length=4,
        description="Blocks a stage: (2, 2, 2, 2) in ResNet18, (3, 4, 6, 3) in ResNet34 or ResNet50.",
    )
    heads: tuple[int, ...] = Field(
        (2, 4, 8, 16), min_length=1, max_length=4, description="Attention heads a stage; unused by resnet and convnext."
    )
    bottleneck: bool = Field(default=False, description="Bottleneck blocks in a resnet, as in ResNet50.")
    stem_width: int = Field(32, ge=8, le=128, description="Channels of a resnet's stem.")
    channels_in: int = Field(3, ge=1, description="Channels of the encoded chip: cosine, sine, validity.")
    chip_px: int = Field(224, ge=32, multiple_of=32, description="Rows and columns of a chip.")
    patch_px: int = Field(16, ge=4, le=32, description="Rows and columns of a patch of a vit.")
    pooling: Literal["mean", "class"] = Field(
        "mean", description="What stands for a whole chip: the mean over it, or the class token of a vit or deit."
    )
    folder: str | None = Field(None, description="Of a local encoder: config.json beside safetensors.")
    transformers: dict[str, Any] | None = Field(
        None, description="What config.json of a local encoder says, written down once it was read."
    )

    @model_validator(mode="after")
    def _fits_its_family(self) -> "EncoderConfig":
        if self.pooling == "class" and self.family not in {"vit", "deit"}:
            raise ValueError(f"{self.family} has no class token: pooling is mean")
        if (self.family == "local") != (self.folder is not None or self.transformers is not None):
            raise ValueError("a local encoder has a folder, and no other has")
        if self.family == "local":
            return self
        stages = STAGES[self.family]
        if not len(self.widths) == len(self.depths) == stages:
            raise ValueError(f"{self.family} has {stages} stages: give so many widths and depths")
        if self.family not in {"resnet", "convnext"} and len(self.heads) != stages:
            raise ValueError(f"{self.family} has {stages} stages: give so many heads")
        if self.chip_px % self.patch_px:
            raise ValueError(f"chips of {self.chip_px} px do not part into patches of {self.patch_px} px")
        if self.family == "cvt" and any(depth < stage for stage, depth in enumerate(self.depths, start=1)):
            # transformers looks up the stage's number among the rates of its blocks.
            raise ValueError(f"depths {self.depths}; a stage of cvt has at least as many blocks as its number")
        return self


class Encoder(nn.Module, ABC):
    """A network of transformers whose feature maps are asked for by one name.

    Attributes
    ----------
    config
        What it was built from.
    channels, strides
        Of the feature maps, finest first; a stride is chip pixels a feature pixel.
    """

    config: EncoderConfig
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips [B, C, H, W] to feature maps, each [B, C_i, H / stride_i, W / stride_i]."""

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Map encoded chips [B, C, H, W] to what stands for each as a whole, [B, C_last]."""
        pooled: Tensor = self(x_BCHW)[-1].mean(dim=(2, 3))
        return pooled


def build_encoder(config: EncoderConfig) -> Encoder:
    """Build an encoder with random weights, a local one with its own; seed torch before, for the same ones.

    Raises
    ------
    ModelInvalidError
        When the folder of a local encoder does not hold one.
    """
    if config.family == "local":
        from training.networks.local_encoder import LocalEncoder

        return LocalEncoder(config)
    builders: dict[Family, Any] = {
        "resnet": ResNetEncoder,
        "convnext": ConvNeXtEncoder,
        "swin": SwinEncoder,
        "vit": ViTEncoder,
        "deit": DeiTEncoder,
        "cvt": CvtEncoder,
    }
    encoder: Encoder = builders[config.family](config)
    return encoder


class ResNetEncoder(Encoder):
    """ResNet (He et al. 2016) with averaging shortcuts (He et al. 2019, ResNet-D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
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
        super().__init__(config)
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
                window_size=_window(config.chip_px // 32),
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


class TokenEncoder(Encoder):
    """A vision transformer: maps of four depths, all of one stride; patches may be left out.

    Attributes
    ----------
    body
        Model of transformers with `embeddings`, `layers` and `layernorm`.
    first
        Tokens before those of the patches; the class token is number 0.
    patch_px
        Rows and columns of a patch.
    """

    body: Any
    first: int
    patch_px: int

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        quarter = config.depths[0] / 4
        self.taken = tuple(max(1, round(quarter * (index + 1))) for index in range(4))
        self.channels = 4 * config.widths

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips to four feature maps, of rising depth."""
        state_BLC, (rows, cols) = self._embedded(x_BCHW)
        states = [state_BLC]
        for layer in self.body.layers:
            states.append(layer(states[-1], None))
        patches = [states[index][:, self.first :].transpose(1, 2) for index in self.taken]
        return [each.reshape(*each.shape[:2], rows, cols) for each in patches]

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Map encoded chips to the class token, or to the mean over patches, after the last normalisation."""
        tokens_BLC = self.tokens(x_BCHW)
        return tokens_BLC[:, 0] if self.config.pooling == "class" else tokens_BLC[:, self.first :].mean(dim=1)

    def tokens(self, x_BCHW: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Map encoded chips to tokens [B, first + K, C] of the kept patches.

        Parameters
        ----------
        x_BCHW
            Encoded chips.
        kept_BK
            [B, K] numbers of the patches that the layers see, row by row from 0; None: all.
        """
        tokens_BLC, _ = self._embedded(x_BCHW)
        if kept_BK is not None:
            at = kept_BK[..., None].expand(-1, -1, tokens_BLC.shape[-1])
            kept_BKC = tokens_BLC[:, self.first :].gather(1, at)
            tokens_BLC = torch.cat([tokens_BLC[:, : self.first], kept_BKC], dim=1)
        for layer in self.body.layers:
            tokens_BLC = layer(tokens_BLC, None)
        normalised: Tensor = self.body.layernorm(tokens_BLC)
        return normalised

    def _embedded(self, x_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return patches with their places, and rows and columns of patches.

        Other sizes than the trained one get places in between; a size that is free in a graph is always another one.
        """
        parts = self.body.embeddings
        patches_BCHW = parts.patch_embeddings.projection(x_BCHW)
        rows, cols = patches_BCHW.shape[-2:]
        places_1LC = parts.position_embeddings
        first_1LC, grid_1LC = places_1LC[:, : self.first], places_1LC[:, self.first :]
        side = self.config.chip_px // self.patch_px
        if not (isinstance(rows, int) and isinstance(cols, int) and rows == cols == side):
            grid_1CHW = grid_1LC.transpose(1, 2).reshape(1, -1, side, side)
            grid_1CHW = nn.functional.interpolate(grid_1CHW, size=(rows, cols), mode="bicubic", align_corners=False)
            grid_1LC = grid_1CHW.flatten(2).transpose(1, 2)
        starts = [getattr(parts, name) for name in ("cls_token", "distillation_token") if hasattr(parts, name)]
        start_BLC = (torch.cat(starts, dim=1) + first_1LC).expand(x_BCHW.shape[0], -1, -1)
        return torch.cat([start_BLC, patches_BCHW.flatten(2).transpose(1, 2) + grid_1LC], dim=1), (rows, cols)


class DeiTEncoder(TokenEncoder):
    """Vision transformer as in DeiT (Touvron et al. 2021), patches of 16 px."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        from transformers import DeiTConfig, DeiTModel

        self.body = DeiTModel(DeiTConfig(**_vit_settings(config)), add_pooling_layer=False)
        self.first, self.patch_px, self.strides = 2, 16, (16, 16, 16, 16)


class ViTEncoder(TokenEncoder):
    """Vision transformer (Dosovitskiy et al. 2021)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        from transformers import ViTConfig, ViTModel

        self.body = ViTModel(ViTConfig(patch_size=config.patch_px, **_vit_settings(config)), add_pooling_layer=False)
        self.first, self.patch_px, self.strides = 1, config.patch_px, 4 * (config.patch_px,)


class ConvNeXtEncoder(Encoder):
    """ConvNeXt (Liu et al. 2022)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        from transformers import ConvNextConfig, ConvNextModel

        self.body = ConvNextModel(
            ConvNextConfig(
                num_channels=config.channels_in, hidden_sizes=list(config.widths), depths=list(config.depths)
            )
        )
        self.channels, self.strides = config.widths, (4, 8, 16, 32)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map encoded chips to feature maps of strides 4, 8, 16, 32."""
        return list(self.body(x_BCHW, output_hidden_states=True).hidden_states[1:])


class CvtEncoder(Encoder):
    """Convolutional vision transformer (Wu et al. 2021)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
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


def _vit_settings(config: EncoderConfig) -> dict[str, Any]:
    """Return what ViT and DeiT are configured with alike."""
    return {
        "image_size": config.chip_px,
        "num_channels": config.channels_in,
        "hidden_size": config.widths[0],
        "num_hidden_layers": config.depths[0],
        "num_attention_heads": config.heads[0],
        "intermediate_size": 4 * config.widths[0],
        **PLAIN_ATTENTION,
    }


def _window(coarsest_px: int) -> int:
    """Return the largest window of at most 8 that the coarsest map, and so every map, parts into: 7 for 224 px."""
    return max(size for size in range(1, 9) if coarsest_px % size == 0)


def _average_in_shortcuts(module: nn.Module) -> None:
    """Put an average before every strided 1 x 1 convolution, which would skip three pixels of four."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) and child.stride != (1, 1):
            plain: Any = nn.Conv2d(child.in_channels, child.out_channels, 1, bias=child.bias is not None)
            setattr(module, name, nn.Sequential(nn.AvgPool2d(child.stride[0]), plain))
        else:
            _average_in_shortcuts(child)
