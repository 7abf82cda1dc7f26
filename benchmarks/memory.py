"""Peak memory of a scoring: it grows with the scene's width, not with its area.

Each scene is scored in a process of its own, whose peak resident memory the kernel reports. Run:
``python benchmarks/memory.py`` (8,192 px wide, 1,024 and 4,096 rows), with ``--huge`` (25,000 x 17,000 px), or with
``--hazard landslide`` (three acquisitions before and three after, 5,000 px wide, 1,250 and 5,000 rows).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scene import write_scene

LIMIT_BYTES = 1_500_000_000
MOST_GROWTH = 0.10
SIZES = {"flood": [(1024, 8192), (4096, 8192)], "landslide": [(1250, 5000), (5000, 5000)]}
HUGE = (17_000, 25_000)

# VmHWM, not ru_maxrss: the latter keeps the peak of the process that started this one.
CHILD = """
import sys, tocsin
from pathlib import Path
hazard, post, out, repository, *pre = sys.argv[1:]
options = {"model_repository": repository} if repository else {}
if pre:
    options |= {"pre": pre[:3]}
    post = [post, *pre[3:]]
tocsin.score(hazard, post=post, out=out, quiet=True, **options)
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peak_bytes(hazard: str, rows: int, cols: int, repository: str) -> int:
    """Peak resident memory of scoring a scene of this size, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene.tif", rows, cols)
        others = [Path(folder) / f"other{number}.tif" for number in range(5 if hazard == "landslide" else 0)]
        for other in others:
            # Other names of one file: each is opened and read as an acquisition of its own.
            os.link(scene, other)
        command = [sys.executable, "-c", CHILD, hazard, str(scene), str(Path(folder) / "out"), repository]
        command += map(str, others)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hazard", choices=sorted(SIZES), default="flood")
    parser.add_argument("--huge", action="store_true", help="25,000 x 17,000 px instead")
    parser.add_argument("--model-repository", default="")
    asked = parser.parse_args()
    sizes = [HUGE] if asked.huge else SIZES[asked.hazard]
    peaks = [peak_bytes(asked.hazard, rows, cols, asked.model_repository) for rows, cols in sizes]
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
