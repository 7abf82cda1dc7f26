"""Methods of pretraining, one a file: each joins an encoder, a head and a loss, and says which views it compares.

Views come from `training.views`, losses from `training.objectives`, encoders from `training.networks.bands`: any
encoder takes any method.
"""

from training.tasks.pretexts.build import Method, build_pretext
from training.tasks.pretexts.pretext import Judgement, Pretext

__all__ = ["Judgement", "Method", "Pretext", "build_pretext"]
