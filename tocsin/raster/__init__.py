"""The only package that opens rasters: hostile-file checks, one rule of validity, alignment, COG writing."""

from tocsin.raster.acquired import Acquired, acquired
from tocsin.raster.aligned import Aligned, Method, align
from tocsin.raster.backscatter import Backscatter, acquisition_files, open_backscatter
from tocsin.raster.interferogram import (
    Coherence,
    Coherent,
    Incoherent,
    Interferogram,
    Multilooked,
    open_coherence,
    open_interferogram,
)
from tocsin.raster.locating import locate
from tocsin.raster.opening import Raster, open_raster
from tocsin.raster.picture import Picture, is_picture, open_picture
from tocsin.raster.rasterised import Rasterised, rasterise
from tocsin.raster.source import BandArray, ClosingSource, Limits, Source
from tocsin.raster.units import Units
from tocsin.raster.writer import RasterSpec, RasterWriter

__all__ = [
    "Acquired",
    "Aligned",
    "Backscatter",
    "BandArray",
    "ClosingSource",
    "Coherence",
    "Coherent",
    "Incoherent",
    "Interferogram",
    "Limits",
    "Method",
    "Multilooked",
    "Picture",
    "Raster",
    "RasterSpec",
    "RasterWriter",
    "Rasterised",
    "Source",
    "Units",
    "acquired",
    "acquisition_files",
    "align",
    "is_picture",
    "locate",
    "open_backscatter",
    "open_coherence",
    "open_interferogram",
    "open_picture",
    "open_raster",
    "rasterise",
]
