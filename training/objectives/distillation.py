"""Self-distillation: a student that says of every view what its own running mean says of whole ones.

Shape suffixes: B chips, K axes of the head's output.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def distillation(
    student: Sequence[Tensor], teacher: Sequence[Tensor], centre_K: Tensor, temperatures: tuple[float, float]
) -> Tensor:
    """Return the cross-entropy of DINO (Caron et al. 2021, ICCV, equations 1 to 3).

    Every view of the student is compared to every view of the teacher, except the very same one.

    Parameters
    ----------
    student
        Logits [B, K] of all views; the first ones are those that the teacher sees.
    teacher
        Logits [B, K] of whole views; no gradient reaches them.
    centre_K
        [K] running mean of the teacher's logits, taken from them so that no axis wins everywhere.
    temperatures
        Of student and teacher.
    """
    warm, sharp = temperatures
    total, pairs = torch.zeros((), device=centre_K.device), 0
    for number, taught in enumerate(teacher):
        target_BK = torch.softmax((taught.detach().float() - centre_K) / sharp, dim=1)
        for index, said in enumerate(student):
            if index != number:
                total = total - (target_BK * torch.log_softmax(said.float() / warm, dim=1)).sum(dim=1).mean()
                pairs += 1
    return total / max(1, pairs)


def moved_centre(centre_K: Tensor, teacher: Sequence[Tensor], kept: float) -> Tensor:
    """Return the centre after a batch, of which the share `kept` stays (Caron et al. 2021, equation 4)."""
    return kept * centre_K + (1 - kept) * torch.cat(list(teacher)).detach().float().mean(dim=0)
