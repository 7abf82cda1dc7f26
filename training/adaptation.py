"""Adapting to real interferograms without a label: pseudo-labels and a new projection (Bountos et al. 2022).

The encoder, the prototypes and every other head stay as they are, so that pictures become pooled features once, and
only the projection into prototype space is learnt again. Shape suffixes: N pictures, V views, C pooled channels.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.networks.volcano import VolcanoNetwork
from training.objectives.prototypes import distance_cross_entropy, pull
from training.preprocess import encode_phase
from training.volcano_recipe import Adaptation

BATCH: Final = 32


@dataclass(frozen=True)
class Labelled:
    """Pooled features [N, C] and their labels [N], int64: 0 at rest, 1 deforming."""

    features: Tensor
    labels: Tensor


def views(phase: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return a picture as other passes might have seen it: mirrored, with the other sign, turned.

    Parameters
    ----------
    phase
        [H, W], rad, square.
    count
        Number of views, the picture itself first, then its mirror image, both with the other sign, then turned.

    Returns
    -------
    ndarray
        [V, H, W].
    """
    made = []
    for index in range(count):
        turned = np.rot90(phase, index // 4)
        turned = turned[:, ::-1] if index % 2 else turned
        made.append(-turned if index // 2 % 2 else turned)
    return np.stack(made)


def pooled_features(network: VolcanoNetwork, phase: NDArray[np.float32]) -> Tensor:
    """Return what the encoder makes of pictures: [N, C], of float32 arithmetic.

    Parameters
    ----------
    network
        In evaluation mode.
    phase
        [N, H, W], rad, NaN where missing.
    """
    found = []
    with torch.inference_mode():
        for start in range(0, len(phase), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(phase[start : start + BATCH]))[:, None]
            encoded = encode_phase(batch).contiguous(memory_format=torch.channels_last)
            found.append(network.pooled(encoded, network.encoder(encoded)[-1]).float())
    return torch.cat(found).clone()


def pseudo_labels(network: VolcanoNetwork, features_NVC: Tensor) -> Tensor:
    """Return the class of the nearest prototype, [N] int64, by the mean of the log odds over views.

    Every picture gets one, however doubtful, as in the released code of Bountos et al. (2022); the views are ours.
    """
    with torch.inference_mode():
        odds = network.decide(network.projection(features_NVC.flatten(0, 1)))
        labels: Tensor = (odds.reshape(features_NVC.shape[:2]).mean(dim=1) > 0).long()
    return labels.clone()


def adapted(
    network: VolcanoNetwork, real: Labelled, simulated: Labelled, settings: Adaptation, seed: int
) -> VolcanoNetwork:
    """Return the network with a new, non-linear projection learnt from pseudo-labels; the old one is left alone.

    Parameters
    ----------
    network
        As the simulator taught it.
    real
        Features of unlabelled pictures with their pseudo-labels.
    simulated
        Features of simulated chips with their known labels, mixed in so that nothing is unlearnt (ours).
    settings
        Widths and schedule.
    seed
        Of weights and draws.
    """
    torch.manual_seed(seed)
    config = network.config.model_copy(update={"projection": settings.hidden})
    changed = VolcanoNetwork(config)
    kept = {name: value for name, value in network.state_dict().items() if not name.startswith("projection.")}
    changed.load_state_dict(kept, strict=False)
    optimiser = torch.optim.AdamW(
        changed.projection.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    prototypes = changed.prototypes.detach()
    draws = torch.Generator().manual_seed(seed)
    from_simulation = round(settings.batch * settings.simulated_share)
    for _ in range(settings.steps):
        parts = [_balanced(real, settings.batch - from_simulation, draws), _balanced(simulated, from_simulation, draws)]
        features, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("features", "labels"))
        embedding = changed.projection(features)
        loss = distance_cross_entropy(embedding, prototypes, labels) + settings.pull * pull(
            embedding, prototypes, labels
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return changed.eval()


def _balanced(pool_of: Labelled, count: int, draws: torch.Generator) -> Labelled:
    """Draw features, half of either label; of one label alone when there is no other."""
    groups = [torch.nonzero(pool_of.labels == label)[:, 0] for label in (0, 1)]
    groups = [members for members in groups if len(members)]
    shares = [count // len(groups) + (number < count % len(groups)) for number in range(len(groups))]
    drawn = [
        torch.randint(len(members), (share,), generator=draws) for members, share in zip(groups, shares, strict=True)
    ]
    chosen = torch.cat([members[rows] for members, rows in zip(groups, drawn, strict=True)])
    return Labelled(pool_of.features[chosen], pool_of.labels[chosen])
