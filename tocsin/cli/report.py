"""A scoring's result for a human reader."""

from tocsin.result import AnomalySummary, FloodSummary, LandslideSummary, Result, ScoringPlan, VolcanoSummary


def scoring_text(result: Result) -> str:
    """Return what a duty officer needs from a result: figures, warnings, and where the products are."""
    scene, ran = result.scene, result.provenance
    acquired = scene.acquired.strftime("%Y-%m-%d %H:%M UTC") if scene.acquired else "at an unknown time"
    place = scene.crs or "no georeference"
    lines = [f"{scene.id}, {scene.shape[0]} x {scene.shape[1]} px, {place}, acquired {acquired}"]
    if isinstance(result.summary, ScoringPlan):
        lines += _plan_lines(result.summary)
    elif isinstance(result.summary, FloodSummary):
        lines += _flood_lines(result.summary)
    elif isinstance(result.summary, LandslideSummary):
        lines += _landslide_lines(result.summary)
    elif isinstance(result.summary, VolcanoSummary):
        lines += _volcano_lines(result.summary)
    elif isinstance(result.summary, AnomalySummary):
        lines += _anomaly_lines(result.summary)
    if result.status == "empty":
        lines.append("no valid pixel: every raster is all no data")
    lines += [f"warning: {each.message} ({each.code})" for each in result.warnings]
    lines += [f"{name:<12}{path}" for name, path in result.products.items()]
    lines.append(
        f"model {ran.model} {ran.version}, {ran.precision}, {ran.runtime} on {ran.device}, "
        f"threshold {ran.threshold:g}, {ran.seconds:.1f} s"
    )
    return "\n".join(lines)


def _plan_lines(plan: ScoringPlan) -> list[str]:
    return [
        f"windows     {plan.windows_to_run} of {plan.windows} to run, {plan.chip_px} px, overlap {plan.overlap_px} px",
        f"peak memory {plan.expected_peak_bytes / 2**20:,.0f} MiB expected",
        f"to write    {plan.bytes_to_write / 2**20:,.1f} MiB at most",
    ]


def _flood_lines(summary: FloodSummary) -> list[str]:
    figures = {
        "observed": summary.observed_km2,
        "water": summary.water_km2,
        "flood": summary.flood_km2,
        "permanent": summary.permanent_km2,
    }
    lines = [f"{name:<12}{area:,.2f} km2" for name, area in figures.items() if area is not None]
    return [*lines, f"{'polygons':<12}{summary.polygons}"]


def _landslide_lines(summary: LandslideSummary) -> list[str]:
    expected, days = "nothing was seen", summary.days_between
    if summary.expected_landslides is not None and summary.expected_landslides_interval is not None:
        low, high = summary.expected_landslides_interval
        expected = f"{summary.expected_landslides:,.1f} landslides, 90 % interval {low:,.0f} to {high:,.0f}"
    return [
        f"{'expected':<12}{expected}",
        f"{'cells':<12}{summary.high_cells} high, {summary.low_cells} low, of {summary.cells}",
        f"{'observed':<12}{summary.observed_km2:,.2f} km2",
        f"{'slid':<12}{summary.landslide_km2:,.2f} km2",
        f"{'gap':<12}{'unknown' if days is None else f'{days:.1f} days'}",
    ]


def _volcano_lines(summary: VolcanoSummary) -> list[str]:
    figures = {"observed": summary.observed_km2, "deforming": summary.deforming_km2}
    lines = [f"{name:<12}{area:,.2f} km2" for name, area in figures.items() if area is not None]
    return [f"{'verdict':<12}{summary.verdict}", *lines, f"{'detections':<12}{summary.detections}"]


def _anomaly_lines(summary: AnomalySummary) -> list[str]:
    verdict = {True: "anomalous", False: "normal", None: "nothing measured"}[summary.anomalous]
    score = "-" if summary.score is None else f"{summary.score:.2f}"
    return [f"{'verdict':<12}{verdict}", f"{'score':<12}{score}, alarm above {summary.threshold:.2f}"]
