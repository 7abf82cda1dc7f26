"""DeepCube's real interferograms (Bountos et al. 2021, IEEE GRSL; the repackager states no licence).

``S1/{Train,Test}/{0,1}`` holds grey pictures of 227 x 227 pixels of about 100 m, cut around volcanoes out of COMET
LiCSAR frames; ``C1/{0,1}`` holds coloured previews of mostly 224 x 224 pixels of about 333 m, some whole frames.
Upstream's split leaks: 24 of 30 pictures of Test show a volcano of Train, 7 come from the very pair. Split by
`tocsin.interferograms.disjoint_groups`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from tocsin.errors import UsageError, WrongUnitsError
from tocsin.interferograms import taken_of
from tocsin.phase_pictures import read_picture
from training.datasets.interferogram import LabelledPhase

Subset = Literal["S1", "C1"]
SUFFIXES: Final = {".png", ".tif"}


class DeepCube:
    """The pictures of one subset below a folder.

    Parameters
    ----------
    folder
        The folder that holds ``S1`` and ``C1``.
    subset
        Which of them.

    Raises
    ------
    UsageError
        When no folders named 0 and 1 are found there.
    """

    def __init__(self, folder: str | Path, subset: Subset) -> None:
        self.folder = Path(folder) / subset
        self.subset = subset
        found = [path for path in self.folder.glob("**/[01]") if path.is_dir()]
        if {path.name for path in found} != {"0", "1"}:
            raise UsageError(
                given=f"{self.folder}, which holds no folders named 0 and 1",
                expected="DeepCube's folders S1/{Train,Test}/{0,1} or C1/{0,1}",
                todo="pass the folder that holds S1 and C1",
            )
        self._classes = sorted(found)

    def names(self) -> tuple[str, ...]:
        """Return the pictures as paths relative to the subset's folder, sorted."""
        pictures = (path for folder in self._classes for path in folder.iterdir() if path.suffix in SUFFIXES)
        return tuple(sorted(path.relative_to(self.folder).as_posix() for path in pictures))

    def read(self, name: str) -> LabelledPhase:
        """Read one picture at its own size.

        Raises
        ------
        WrongUnitsError
            When it is drawn otherwise than this subset's pictures are.
        """
        picture = read_picture(self.folder / name)
        if picture.rendering != "blank" and (picture.rendering == "grey") != (self.subset == "S1"):
            raise WrongUnitsError(
                given=f"{self.folder / name}, drawn as {picture.rendering}",
                expected="grey phase" if self.subset == "S1" else "phase in colours",
                todo="keep S1 and C1 in folders of their own",
            )
        label = int(Path(name).parent.name)
        return LabelledPhase(name, taken_of(name), picture, label)

    def chips(self) -> Iterator[LabelledPhase]:
        """Read every picture, in the order of their names."""
        for name in self.names():
            yield self.read(name)
