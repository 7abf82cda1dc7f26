"""Which unlabelled data a recipe learns from: one part of the recipe a source, read into one pool."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from tocsin.errors import UsageError
from tocsin.manifest import DataSource
from training.datasets import unlabelled_archives as archives
from training.datasets import unlabelled_phase as phase
from training.datasets import unlabelled_sar as sar
from training.datasets.simulated_interferograms import Draw
from training.datasets.unlabelled import UnlabelledChip, UnlabelledPool, tiled
from training.recipe_parts import Part

Kind = Literal[
    "sen1floods11",
    "opera_rtc",
    "terramesh",
    "simulated_floods",
    "deepcube_s1",
    "deepcube_c1",
    "licsar_series",
    "licsar_frame",
    "hephaestus",
    "simulated_interferograms",
    "m3leo",
    "big_earth_net",
]

SIMULATED: Final = {"simulated_floods", "simulated_interferograms"}
SIMULATED_SEED: Final = 7_000_000
"""First seed of the scenes; labelled simulations, tests and the demo draw from elsewhere."""

OPEN: Final = "Copernicus open data; no explicit licence from the repackager"
SOURCES: Final[dict[Kind, tuple[str, str]]] = {
    "sen1floods11": (OPEN, "Sen1Floods11: Bonafilia et al. 2020, CVPR workshops."),
    "opera_rtc": ("Apache-2.0", "OPERA RTC-S1 (NASA/JPL); contains modified Copernicus Sentinel data."),
    "terramesh": ("CC-BY-4.0", "TerraMesh: Blumenstiel et al. 2025."),
    "simulated_floods": ("Apache-2.0", "Simulated by tocsin."),
    "deepcube_s1": (OPEN, "DeepCube: Bountos et al. 2021, IEEE GRSL, drawn from LiCSAR interferograms of COMET."),
    "deepcube_c1": (OPEN, "DeepCube: Bountos et al. 2021, IEEE GRSL, drawn from LiCSAR interferograms of COMET."),
    "licsar_series": (
        OPEN,
        "LiCSAR contains modified Copernicus Sentinel data analysed by COMET (Lazecky et al. 2020).",
    ),
    "licsar_frame": (
        OPEN,
        "LiCSAR contains modified Copernicus Sentinel data analysed by COMET (Lazecky et al. 2020).",
    ),
    "hephaestus": ("MIT", "Hephaestus: Bountos et al. 2022, CVPR workshops, from LiCSAR interferograms of COMET."),
    "simulated_interferograms": ("Apache-2.0", "Simulated by tocsin."),
    "m3leo": ("see the licence of each part", "M3LEO: Allen et al. 2024."),
    "big_earth_net": ("CDLA-Permissive-1.0", "BigEarthNet: Sumbul et al. 2021; Clasen et al. 2024."),
}
"""Licence and attribution."""


class Source(Part):
    """One data set, or scenes to simulate."""

    kind: Kind = Field(description="Which.")
    folder: str | None = Field(None, description="Folder below TOCSIN_DATA; simulations have none.")
    tile_px: int | None = Field(None, ge=32, description="Scenes are parted into squares so large; None: as they are.")
    split: Literal["train", "val", "test"] = Field("train", description="Split of M3LEO.")
    count: int = Field(500, ge=1, description="Simulated scenes.")
    size_px: int = Field(256, ge=64, multiple_of=32, description="Rows and columns of a simulated flood.")
    left_out: tuple[str, ...] = Field((), description="Places that nothing is learnt from, by name.")


def read_source(source: Source, data: Path | None, work: Path) -> Iterator[UnlabelledChip]:
    """Yield the chips of a source.

    Parameters
    ----------
    source
        Which.
    data
        Folder that data sets lie below.
    work
        Folder to keep simulated interferograms in.

    Raises
    ------
    UsageError
        When its folder is not named or not there, or holds nothing of it.
    """
    if source.kind == "simulated_floods":
        chips = sar.simulated_floods(source.count, source.size_px, SIMULATED_SEED)
    elif source.kind == "simulated_interferograms":
        chips = phase.simulated_interferograms(Draw(source.count, SIMULATED_SEED), work)
    else:
        chips = _read_folder(source, _folder(source, data))
    for chip in chips:
        if chip.place not in source.left_out:
            yield from tiled(chip, source.tile_px)


def read_pool(
    sources: Sequence[Source], folders: tuple[Path | None, Path], bands: Sequence[str], extra: Sequence[str]
) -> tuple[UnlabelledPool, tuple[DataSource, ...]]:
    """Read all sources into one pool, and say what was learnt from.

    Parameters
    ----------
    sources
        At least one.
    folders
        Of the data sets, and to keep simulations in.
    bands, extra
        As `UnlabelledPool` takes them.

    Raises
    ------
    UsageError
        As `read_source` and `UnlabelledPool` raise it.
    WrongBandsError
        When a band is unknown.
    """
    counts: dict[Kind, int] = {}

    def counted() -> Iterator[UnlabelledChip]:
        for source in sources:
            for chip in read_source(source, *folders):
                counts[source.kind] = counts.get(source.kind, 0) + 1
                yield chip

    pool = UnlabelledPool(counted(), bands, extra)
    facts = tuple(
        DataSource(name=f"{kind}, unlabelled", chips=count, licence=SOURCES[kind][0], attribution=SOURCES[kind][1])
        for kind, count in counts.items()
    )
    return pool, facts


def _folder(source: Source, data: Path | None) -> Path:
    if source.folder is None:
        raise UsageError(f"{source.kind} without a folder", "its folder below TOCSIN_DATA", "name data.folder")
    if data is None and not Path(source.folder).is_absolute():
        raise UsageError(
            f"no folder of data sets, for {source.kind}", "the folder that they lie below", "set TOCSIN_DATA or --data"
        )
    folder = (data or Path()) / source.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}, which is no folder", f"the folder of {source.kind}", "mend data.folder or --data")
    return folder


def _read_folder(source: Source, folder: Path) -> Iterator[UnlabelledChip]:
    if source.kind == "m3leo":
        return archives.m3leo(folder, source.split)
    if source.kind in {"deepcube_s1", "deepcube_c1"}:
        return phase.deepcube(folder, "S1" if source.kind == "deepcube_s1" else "C1")
    readers = {
        "sen1floods11": sar.sen1floods11,
        "opera_rtc": sar.opera_rtc,
        "terramesh": sar.terramesh,
        "licsar_series": phase.licsar_series,
        "licsar_frame": phase.licsar_frames,
        "hephaestus": phase.hephaestus,
        "big_earth_net": archives.big_earth_net,
    }
    return readers[source.kind](folder)
