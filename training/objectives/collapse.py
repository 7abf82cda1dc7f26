"""Collapse: a network that says the same of every chip has found the cheapest way to agree, and learnt nothing."""

from torch import Tensor, nn


def spread(embedding_BD: Tensor) -> float:
    """Return how far embeddings lie apart: about 1 when they point anywhere, 0 when all are the same.

    The standard deviation of each axis of the normalised embeddings, mean over axes, times the square root of their
    number (Chen and He 2021, CVPR, section 4.1).

    Parameters
    ----------
    embedding_BD
        [B, D], B at least 2.
    """
    unit = nn.functional.normalize(embedding_BD.detach().float(), dim=1)
    return float(unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5)
