"""An encoder that somebody else trained: a local folder of transformers with safetensors, nothing downloaded.

Shape suffixes: B batch, C channels, H rows, W columns, L tokens.
"""

import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from tocsin.errors import ModelInvalidError
from training.networks.encoders import Encoder, EncoderConfig

ADVICE = "pass a folder that holds config.json and model.safetensors of an image encoder"


class LocalEncoder(Encoder):
    """A model of transformers as its own config.json describes it.

    Its weights are read from the folder, from safetensors only; without a folder the model is built from what was
    written down of config.json, and a checkpoint gives the weights.

    Parameters
    ----------
    config
        With `folder`, or with `transformers`.

    Raises
    ------
    ModelInvalidError
        When the folder holds no such model, lacks safetensors, or takes another number of channels than the recipe
        names bands.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        described = config.transformers if config.transformers is not None else read_config(config.folder or "")
        self.body = _body(described, None if config.transformers is not None else config.folder)
        taken = int(getattr(self.body.config, "num_channels", 0))
        if taken != config.channels_in:
            raise ModelInvalidError(
                f"an encoder that takes {taken} channels, with {config.channels_in} bands named",
                "one name for each of its channels, in their order",
                "name its bands in the recipe as its authors do",
            )
        self.described = described
        shapes = [tuple(each.shape) for each in self._maps(config.chip_px, taken)]
        self.channels = tuple(shape[1] for shape in shapes)
        self.strides = tuple(config.chip_px // shape[2] for shape in shapes)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Map normalised bands to feature maps, one a resolution, finest first."""
        said = self.body(pixel_values=x_BCHW, output_hidden_states=True)
        states = getattr(said, "reshaped_hidden_states", None) or said.hidden_states or (said.last_hidden_state,)
        maps = [_as_map(each) for each in states]
        # The last state of every resolution has seen most.
        kept = {each.shape[-1]: each for each in maps}
        return [kept[size] for size in sorted(kept, reverse=True)]

    def _maps(self, chip_px: int, channels: int) -> list[Tensor]:
        import torch

        with torch.inference_mode():
            maps: list[Tensor] = self.eval()(torch.zeros(1, channels, chip_px, chip_px))
        return maps


def read_config(folder: str) -> dict[str, Any]:
    """Return what config.json of a folder says.

    Raises
    ------
    ModelInvalidError
        When there is none, or it is no JSON object with a model type.
    """
    path = Path(folder) / "config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelInvalidError(f"{path} ({error})", "config.json of transformers", ADVICE) from error
    if not isinstance(said, dict) or "model_type" not in said:
        raise ModelInvalidError(f"{path} without a model_type", "config.json of transformers", ADVICE)
    return said


def _body(described: dict[str, Any], folder: str | None) -> Any:  # noqa: ANN401 - transformers has no types
    """Return the model that a configuration describes, with the weights of a folder where one is given."""
    from transformers import AutoConfig, AutoModel

    try:
        settings = AutoConfig.for_model(**described, attn_implementation="eager")
        if folder is None:
            return AutoModel.from_config(settings)  # type: ignore[no-untyped-call]
        if not any(Path(folder).glob("*.safetensors")):
            raise ModelInvalidError(
                f"{folder} without safetensors", "weights that run no code when they are read", ADVICE
            )
        # Code of a folder is never run, and nothing is asked of the network.
        return AutoModel.from_pretrained(
            folder, config=settings, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, ModelInvalidError):
            raise
        raise ModelInvalidError(
            f"{folder or 'a written down config.json'} ({error})", "an image encoder", ADVICE
        ) from error


def _as_map(state: Tensor) -> Tensor:
    """Return a state as a map [B, C, H, W]; of tokens [B, L, C] those that do not fill a square come first."""
    if state.ndim == 4:
        return state
    side = math.isqrt(state.shape[1])
    return state[:, -side * side :].transpose(1, 2).reshape(state.shape[0], -1, side, side)
