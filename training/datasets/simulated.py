"""Simulated flood chips: sample ``index`` is the scene of seed ``first_seed + index``, always the same."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin.simulate import FloodSettings, NumpyRandom, flood_scene
from training.datasets.chip import IGNORE, LabelledChip

CHUNK: Final = 16


class SimulatedFloods:
    """A fixed number of simulated scenes, drawn once and kept in half precision.

    dB in float16 is exact to 0.02 dB, an order below speckle; it halves the memory, and a scene costs more to draw than
    a small network needs to learn from it.

    Parameters
    ----------
    count
        Number of scenes.
    size_px
        Rows and columns of each.
    first_seed
        Seed of the first; give data sets that must not overlap seeds far apart.
    cache
        File (.npz) to keep the scenes in between runs; drawn anew when absent or of another kind.
    """

    def __init__(self, count: int, size_px: int, first_seed: int = 0, cache: Path | None = None) -> None:
        self._key = np.array([count, size_px, first_seed])
        loaded = self._load(cache)
        if loaded is None:
            loaded = _draw(count, size_px, first_seed)
            if cache is not None:
                cache.parent.mkdir(parents=True, exist_ok=True)
                np.savez(cache, key=self._key, s1_db=loaded[0], label=loaded[1])
        self._s1_db, self._label = loaded
        self._first_seed = first_seed

    def _load(self, cache: Path | None) -> tuple[NDArray[np.float16], NDArray[np.int8]] | None:
        """Return the cached arrays when they are those asked for."""
        if cache is None or not cache.is_file():
            return None
        with np.load(cache, allow_pickle=False) as kept:
            if not np.array_equal(kept["key"], self._key):
                return None
            return kept["s1_db"], kept["label"]

    def __len__(self) -> int:
        return len(self._label)

    def __getitem__(self, index: int) -> LabelledChip:
        s1_db = self._s1_db[index].astype(np.float32)
        return LabelledChip(f"simulated_{self._first_seed + index}", "", s1_db, self._label[index].astype(np.int16))


def _draw(count: int, size_px: int, first_seed: int) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Simulate all scenes, on every core."""
    seeds = range(first_seed, first_seed + count)
    with ProcessPoolExecutor() as pool:
        scenes = list(pool.map(partial(_one, size_px=size_px), seeds, chunksize=CHUNK))
    return np.stack([scene[0] for scene in scenes]), np.stack([scene[1] for scene in scenes])


def _one(seed: int, size_px: int) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Simulate one scene."""
    scene = flood_scene(NumpyRandom(seed), (size_px, size_px), FloodSettings(pre_event=False))
    judged = np.isfinite(scene.post_db).any(axis=0)
    return scene.post_db.astype(np.float16), np.where(judged, scene.water, IGNORE).astype(np.int8)
