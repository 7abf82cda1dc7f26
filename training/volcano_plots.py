"""Pictures of what a volcano network learnt: places in prototype space, and where an interferogram excites it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.real_phase import RealPicture
from training.networks.volcano import VolcanoNetwork, pool
from training.preprocess import encode_phase

REST: Final = "#0072b2"
DEFORMING: Final = "#d55e00"
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008)."""

SHOWN: Final = 4


def draw_places(
    path: Path, pictures: Sequence[RealPicture], before: Tensor, after: Tensor | None, prototypes: Tensor
) -> None:
    """Draw where pictures lie in prototype space before and after adaptation (Bountos et al. 2022, as their figure).

    Parameters
    ----------
    path
        PNG to write.
    pictures
        Their labels only colour the points.
    before, after
        [N, 3]; nothing is drawn for a softmax head, whose places have two axes.
    prototypes
        [2, 3].
    """
    if before.shape[1] != prototypes.shape[1]:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = [("before adaptation", before)] + ([] if after is None else [("after adaptation", after)])
    figure = plt.figure(figsize=(6 * len(panels), 5.5), dpi=80)
    labels = np.array([picture.label for picture in pictures])
    for number, (title, places) in enumerate(panels):
        axes: Any = figure.add_subplot(1, len(panels), number + 1, projection="3d")
        for label, colour, name in ((0, REST, "labelled at rest"), (1, DEFORMING, "labelled deforming")):
            chosen = places[labels == label].numpy()
            axes.scatter(*chosen.T, s=5, c=colour, alpha=0.5, label=f"{name} ({len(chosen)})", depthshade=False)
        for place, colour in zip(prototypes.detach().numpy(), (REST, DEFORMING), strict=True):
            axes.scatter(*place[:, None], s=140, c=colour, marker="*", edgecolors="black", depthshade=False)
        axes.set_title(title)
        axes.legend(loc="upper left", fontsize=8)
    figure.suptitle("Real interferograms in prototype space (stars: prototypes); no label was learnt from")
    figure.savefig(path)
    plt.close(figure)


def draw_activations(path: Path, network: VolcanoNetwork, pictures: Sequence[RealPicture]) -> None:
    """Draw interferograms of both labels with what excites the decision (Grad-CAM, Selvaraju et al. 2017) and the mask.

    Parameters
    ----------
    path
        PNG to write.
    network
        In evaluation mode.
    pictures
        The first few of either label in each subset are shown.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = [
        picture
        for label in (1, 0)
        for subset in ("C1", "S1")
        for picture in [each for each in pictures if each.label == label and each.subset == subset][: SHOWN // 2]
    ]
    if not chosen:
        return
    figure, rows = plt.subplots(3, len(chosen), figsize=(2.2 * len(chosen), 7), dpi=80, squeeze=False)
    for column, picture in enumerate(chosen):
        heat, mask, probability = activation(network, picture.phase)
        rows[0][column].imshow(picture.phase, cmap="twilight", vmin=-np.pi, vmax=np.pi, interpolation="nearest")
        rows[0][column].set_title(f"{picture.subset}, label {picture.label}, P {probability:.2f}", fontsize=8)
        rows[1][column].imshow(heat, cmap="magma")
        rows[2][column].imshow(mask, cmap="viridis", vmin=0, vmax=1)
    for row, name in zip(rows, ("phase", "activation", "P(deforming)"), strict=True):
        row[0].set_ylabel(name)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def activation(
    network: VolcanoNetwork, phase: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return Grad-CAM of the decision on the coarsest feature map, P(deforming) of each pixel, and P(deformation).

    Parameters
    ----------
    network
        In evaluation mode.
    phase
        [H, W], rad, NaN where missing.

    Returns
    -------
    tuple
        float32 [H / stride, W / stride], 0 or more; float32 [H, W], 0..1; probability before calibration.
    """
    encoded = encode_phase(torch.from_numpy(np.ascontiguousarray(phase))[None, None])
    with torch.no_grad():
        features = network.encoder(encoded)
        mask = torch.sigmoid(network.mask(features, phase.shape[0]))[0, 0]
    last = features[-1].requires_grad_()
    odds = network.decide(network.projection(pool(last)))
    (slope,) = torch.autograd.grad(odds.sum(), last)
    heat = torch.relu((slope.mean(dim=(2, 3), keepdim=True) * last).sum(dim=1))[0]
    return heat.detach().numpy(), mask.numpy(), float(torch.sigmoid(odds.detach())[0])
