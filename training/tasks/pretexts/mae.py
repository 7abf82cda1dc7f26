"""Masked autoencoder (He et al. 2022): patches that were hidden are reconstructed from those that were not.

A vision transformer never sees hidden patches; its tokens and learnt ones in their places go through a small decoder.
Any other encoder sees them as missing, as it sees no data, and its coarsest map is brought back to patches.
Shape suffixes: B chips, C channels, H rows, W columns, L patches, K kept patches, P values of a patch.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.networks.encoders import TokenEncoder
from training.objectives.reconstruction import masked_error
from training.recipe_parts import Part
from training.tasks.pretexts.pretext import Encoders, Judgement, Pretext
from training.views import ViewPlan, Views

OTHER_PATCH_PX = 16
"""Rows and columns of a patch for an encoder that has none of its own."""


class MaeSettings(Part):
    """How much is hidden, and the decoder."""

    kind: Literal["mae"] = Field(description="The method.")
    hidden_share: float = Field(0.75, gt=0, lt=1, description="Share of patches that are hidden.")
    width: int = Field(128, ge=8, le=2048, description="Channels of the decoder.")
    depth: int = Field(1, ge=1, le=12, description="Layers of the decoder.")
    heads: int = Field(4, ge=1, le=32, description="Attention heads of the decoder.")


class Mae(Pretext):
    """Masked autoencoder."""

    def __init__(self, encoders: Encoders, settings: MaeSettings) -> None:
        super().__init__(encoders)
        self.plan = ViewPlan(whole=1)
        self.settings = settings
        inner = self.encoder.encoder
        self.by_tokens = isinstance(inner, TokenEncoder)
        self.patch_px = inner.patch_px if isinstance(inner, TokenEncoder) else OTHER_PATCH_PX
        self.side = self.encoder.config.chip_px // self.patch_px
        self.values = self.encoder.config.channels_in - self._validity()
        self.lift = nn.Linear(self.encoder.width, settings.width)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, settings.width))
        self.places = nn.Parameter(0.02 * torch.randn(1, self.side**2, settings.width))
        layer = nn.TransformerEncoderLayer(
            settings.width, settings.heads, 4 * settings.width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerEncoder(
            layer, settings.depth, nn.LayerNorm(settings.width), enable_nested_tensor=False
        )
        self.out = nn.Linear(settings.width, self.values * self.patch_px**2)

    def _validity(self) -> int:
        return len(self.encoder.bands) if self.encoder.with_validity else 0

    def forward(self, views: Views) -> Judgement:
        """Reconstruct what was hidden of each chip."""
        raw = views.whole[0]
        encoded = self.encoder.encode(raw)
        kept_BK, hidden_BL = self._hide(len(raw), raw.device)
        lifted_BLC, embedding = self._seen(raw, encoded, kept_BK, hidden_BL)
        said = self.out(self.decoder(lifted_BLC + self.places))
        truth = patches(encoded[:, : self.values], self.patch_px)
        return Judgement(masked_error(said, truth, self._measured(raw), hidden_BL), embedding)

    def _hide(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Draw the patches that are kept, in order, and mark the others."""
        count = self.side**2
        kept_BK = torch.rand(batch, count, device=device).argsort(dim=1)
        kept_BK = kept_BK[:, : max(1, round(count * (1 - self.settings.hidden_share)))].sort(dim=1).values
        return kept_BK, torch.ones(batch, count, device=device).scatter(1, kept_BK, 0.0)

    def _seen(self, raw: Tensor, encoded: Tensor, kept_BK: Tensor, hidden_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the decoder starts from, [B, L, C], and what stands for each chip."""
        inner = self.encoder.encoder
        if isinstance(inner, TokenEncoder):
            tokens = inner.tokens(encoded, kept_BK)[:, inner.first :]
            lifted = self.lift(tokens)
            full = self.hidden_token.to(lifted.dtype).expand(len(raw), self.side**2, -1)
            at = kept_BK[..., None].expand(-1, -1, lifted.shape[-1])
            return full.scatter(1, at, lifted), tokens.mean(dim=1)
        gone = hidden_BL.reshape(-1, 1, self.side, self.side).repeat_interleave(self.patch_px, 2)
        gone = gone.repeat_interleave(self.patch_px, 3) > 0
        last = self.encoder(raw.masked_fill(gone, torch.nan))[-1]
        grid = nn.functional.interpolate(last, size=(self.side, self.side), mode="bilinear", align_corners=False)
        return self.lift(grid.flatten(2).transpose(1, 2)), last.mean(dim=(2, 3))

    def _measured(self, raw: Tensor) -> Tensor:
        """Return for every value of every patch whether it was measured; phase counts for its cosine and its sine."""
        valid = torch.isfinite(raw).to(raw.dtype)
        times = torch.tensor([2 if cyclic else 1 for cyclic in self.encoder.cyclic], device=raw.device)
        return patches(valid.repeat_interleave(times, dim=1), self.patch_px)


def patches(x_BCHW: Tensor, patch_px: int) -> Tensor:
    """Return patches row by row, [B, L, C * patch_px ** 2]."""
    return nn.functional.unfold(x_BCHW, patch_px, stride=patch_px).transpose(1, 2)
