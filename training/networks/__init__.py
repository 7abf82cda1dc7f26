"""Networks by configuration: what turns encoded chips into logits.

Every network maps x_BCHW (float32 or bfloat16, zeros where data is missing, validity channels last) to logits
[B, 1, H, W] at full resolution, for H and W multiples of 32.
"""

from training.networks.build import NetworkConfig, build, parameter_count

__all__ = ["NetworkConfig", "build", "parameter_count"]
