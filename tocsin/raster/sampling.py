"""What is judged before any work: a bounded sample of a file, and whether two files share a grid."""

from tocsin.errors import GridMismatchError
from tocsin.grid import Window
from tocsin.raster.opening import Raster

# The sample that a unit is judged by: a lattice of small windows, each within one block of the file.
SAMPLE_LATTICE = 4
SAMPLE_SIDE = 64
# Largest difference of two corners, in pixels, at which files still count as one grid.
SAME_GRID_PX = 0.01


def sample_windows(shape: tuple[int, int], block_shape: tuple[int, int]) -> list[Window]:
    """Return at most 4 x 4 windows of at most 64 x 64 px, spread over a raster.

    Parameters
    ----------
    shape, block_shape
        Height and width of the raster, and of the strips or tiles in which it is stored, pixels.
    """
    height, width = shape
    block_rows, block_cols = block_shape
    return [
        Window(row, col, min(SAMPLE_SIDE, height - row), min(SAMPLE_SIDE, width - col))
        for row in sorted({_snapped(height, block_rows, step) for step in range(SAMPLE_LATTICE)})
        for col in sorted({_snapped(width, block_cols, step) for step in range(SAMPLE_LATTICE)})
    ]


def _snapped(size: int, block: int, step: int) -> int:
    """Return the start of the sample window in the middle of a part of the axis, moved so as to lie in one block."""
    middle = (2 * step + 1) * size // (2 * SAMPLE_LATTICE)
    start = max(0, min(middle, size - SAMPLE_SIDE))
    if block < SAMPLE_SIDE:
        return start
    return min(start, start // block * block + block - SAMPLE_SIDE)


def check_same_grid(first: Raster, second: Raster, what: str) -> None:
    """Refuse two files whose pixels do not coincide.

    Parameters
    ----------
    first, second
        The files.
    what
        What they hold, for the message.

    Raises
    ------
    GridMismatchError
        Another CRS, another size, or corners that lie more than a hundredth of a pixel apart.
    """
    one, two = first.grid, second.grid
    apart = [abs(a - b) for a, b in zip(one.bounds, two.bounds, strict=True)]
    if one.crs != two.crs or one.shape != two.shape or max(apart) > SAME_GRID_PX * abs(one.transform.a):
        raise GridMismatchError(
            f"{first.href} ({one.crs_name}, {one.shape}, {one.bounds}) and {second.href} "
            f"({two.crs_name}, {two.shape}, {two.bounds})",
            f"{what} on one grid",
            "warp one of them onto the other with gdalwarp",
        )
