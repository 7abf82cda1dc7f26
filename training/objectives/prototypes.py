"""Learning with one prototype a class: cross-entropy over distances, and a pull towards one's own.

Convolutional prototype learning (Yang et al. 2018, CVPR, equations 6 and 10) as Bountos et al. (2022) use it.
Shape suffixes: B batch, E axes of the prototype space, K classes.
"""

import torch
from torch import Tensor, nn

from training.networks.volcano import GAMMA, squared_distances


def distance_cross_entropy(embedding_BE: Tensor, prototypes_KE: Tensor, label_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of softmax(-gamma * squared distance) against labels.

    Parameters
    ----------
    embedding_BE
        [B, E], places in prototype space.
    prototypes_KE
        [K, E].
    label_B
        [B], class numbers.
    """
    return nn.functional.cross_entropy(-GAMMA * squared_distances(embedding_BE, prototypes_KE), label_B)


def pull(embedding_BE: Tensor, prototypes_KE: Tensor, label_B: Tensor) -> Tensor:
    """Return the mean squared distance to the prototype of one's own class."""
    distances = squared_distances(embedding_BE, prototypes_KE)
    return torch.gather(distances, 1, label_B[:, None]).mean()
