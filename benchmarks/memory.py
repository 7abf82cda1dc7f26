"""Peak memory of a scoring: it grows with the scene's width, not with its area.

Each scene is scored in a process of its own, whose peak resident memory the kernel reports. Run:
``python benchmarks/memory.py`` (8,192 px wide, 1,024 and 4,096 rows) or with ``--huge`` (25,000 x 17,000 px).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from scene import write_scene

LIMIT_BYTES = 1_500_000_000
MOST_GROWTH = 0.10
WIDTH = 8192
HEIGHTS = (1024, 4096)
HUGE = (17_000, 25_000)

# VmHWM, not ru_maxrss: the latter keeps the peak of the process that started this one.
CHILD = """
import sys, tocsin
from pathlib import Path
options = {"model_repository": sys.argv[3]} if sys.argv[3] else {}
tocsin.score("flood", post=sys.argv[1], out=sys.argv[2], quiet=True, **options)
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peak_bytes(rows: int, cols: int, repository: str) -> int:
    """Peak resident memory of scoring a scene of this size, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene.tif", rows, cols)
        command = [sys.executable, "-c", CHILD, str(scene), str(Path(folder) / "out"), repository]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--huge", action="store_true", help="25,000 x 17,000 px instead")
    parser.add_argument("--model-repository", default="")
    asked = parser.parse_args()
    sizes = [HUGE] if asked.huge else [(rows, WIDTH) for rows in HEIGHTS]
    peaks = [peak_bytes(rows, cols, asked.model_repository) for rows, cols in sizes]
    growth = max(peaks) / min(peaks) - 1
    print(
        json.dumps(
            {
                "sizes": sizes,
                "peak_bytes": peaks,
                "growth": round(growth, 3),
                "limit_bytes": LIMIT_BYTES,
                "reached": max(peaks) <= LIMIT_BYTES and growth <= MOST_GROWTH,
            }
        )
    )


if __name__ == "__main__":
    main()
