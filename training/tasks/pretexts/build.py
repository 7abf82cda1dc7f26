"""The settings of any method, and the method that they describe."""

from typing import Annotated

from pydantic import Field

from training.tasks.pretexts.barlow_twins import BarlowTwins, BarlowTwinsSettings
from training.tasks.pretexts.clip import Clip, ClipSettings
from training.tasks.pretexts.dino import Dino, DinoSettings
from training.tasks.pretexts.elevation import Elevation, ElevationSettings
from training.tasks.pretexts.mae import Mae, MaeSettings
from training.tasks.pretexts.pretext import Encoders, Pretext
from training.tasks.pretexts.simclr import SimClr, SimClrSettings

Method = Annotated[
    SimClrSettings | BarlowTwinsSettings | MaeSettings | DinoSettings | ClipSettings | ElevationSettings,
    Field(discriminator="kind"),
]


def build_pretext(encoders: Encoders, method: Method) -> Pretext:
    """Return a method over encoders; seed torch before, for the same weights.

    Parameters
    ----------
    encoders
        By modality: several for CLIP, one of all bands for every other method.
    method
        Its settings.
    """
    match method:
        case SimClrSettings():
            return SimClr(encoders, method)
        case BarlowTwinsSettings():
            return BarlowTwins(encoders, method)
        case MaeSettings():
            return Mae(encoders, method)
        case DinoSettings():
            return Dino(encoders, method)
        case ClipSettings():
            return Clip(encoders, method)
        case ElevationSettings():
            return Elevation(encoders, method)
