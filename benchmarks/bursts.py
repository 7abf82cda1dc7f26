"""What series of OPERA RTC-S1 bursts hold: dates, gaps, valid pixels, and how much VH changes without an event.

python benchmarks/bursts.py --data DATA
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from training.datasets.opera_rtc import BurstSeries, OperaRtc

SITES = ("stable_california", "png_2024_pre")


def row(site: str, series: BurstSeries) -> str:
    """Return one row of the table."""
    values = series.read()
    times = [each.acquired for each in series.acquisitions]
    days = sorted({round((late - early).total_seconds() / 86_400) for early, late in pairwise(times)})
    seconds = [time.hour * 3600 + time.minute * 60 + time.second for time in times]
    valid = np.isfinite(values).mean(axis=(0, 2, 3))
    change_db = np.nanstd(np.diff(values[:, 1], axis=0))
    return (
        f"| {site} | {series.burst} | {series.variant or '-'} | {len(times)} | {times[0].date()} | {times[-1].date()} "
        f"| {', '.join(map(str, days))} | {max(seconds) - min(seconds)} | {valid[0]:.2f} | {valid[1]:.2f} "
        f"| {change_db:.2f} | {len(list(series.runs()))} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    folder = parser.parse_args().data / "opera_rtc"
    print(
        "| site | burst | variant | dates | first | last | gaps, days | time of day, spread, s | valid VV | valid VH "
        "| VH change, std, dB | runs of 3 + 3 |"
    )
    print("|" + "---|" * 12)
    for site in SITES:
        for series in OperaRtc(folder / site).series:
            print(row(site, series))


if __name__ == "__main__":
    main()
