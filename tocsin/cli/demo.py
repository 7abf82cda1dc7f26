"""`tocsin demo`: a simulated flood and a simulated interferogram, scored, and compared with what is known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.cli.report import scoring_text

if TYPE_CHECKING:
    from tocsin.scoring import ScoringOptions


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the demo; an earlier demo in it is replaced.")
    ] = Path("demo"),
    model_repository: common.ModelRepository = None,
    runtime: common.Runtime = None,
    device: common.Device = None,
    precision: common.Precision = None,
    threads: common.Threads = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Simulate a flood and an interferogram, score them, and compare the maps with the known truth."""
    set_up_logging(quiet=quiet)
    from tocsin.repository import list_models
    from tocsin.scoring import ScoringOptions

    options = checked(
        ScoringOptions,
        model_repository=model_repository,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        overwrite=True,
        quiet=quiet,
    )
    payload, text = _flood(out, options)
    if "volcano" in list_models(model_repository):
        payload["volcano"], said = _volcano(out / "volcano", options)
    else:
        payload["volcano"], said = None, "no model volcano in this repository: no interferogram was simulated"
    emit(payload, as_json=json, text=f"{text}\n\n{said}")


def _flood(out: Path, options: "ScoringOptions") -> tuple[dict[str, Any], str]:
    """Simulate, score and judge a flood."""
    from tocsin.evaluation import compare_with_truth
    from tocsin.scoring import score
    from tocsin.simulate import write_flood_scene

    files = write_flood_scene(out / "scene")
    result = score(
        "flood",
        out=out / "products",
        options=options,
        post=files.post,
        pre=files.pre,
        dem=files.dem,
        orbit_pass=files.orbit_pass,
        incidence_deg=files.incidence_deg,
    )
    iou = compare_with_truth(Path(result.products["class"]), files.truth).iou
    payload = {"iou": iou, "truth": str(files.truth), "result": result.model_dump(mode="json")}
    said = "no water anywhere" if iou is None else f"{iou:.3f}"
    return payload, f"simulated   {files.post}\n{scoring_text(result)}\nwater IoU against the known truth: {said}"


def _volcano(out: Path, options: "ScoringOptions") -> tuple[dict[str, Any], str]:
    """Simulate, score and judge an interferogram."""
    from tocsin.evaluation import compare_with_truth
    from tocsin.hazards.volcano import DEFORMING
    from tocsin.scoring import score
    from tocsin.simulate import write_interferogram

    files = write_interferogram(out / "scene")
    result = score(
        "volcano",
        out=out / "products",
        options=options,
        interferogram=files.interferogram,
        coherence=files.coherence,
    )
    iou = compare_with_truth(Path(result.products["class"]), files.truth, (DEFORMING,)).iou
    payload = {
        "iou": iou,
        "source": files.source_name,
        "truth": str(files.truth),
        "result": result.model_dump(mode="json"),
    }
    said = "nothing deforms" if iou is None else f"{iou:.3f}"
    lines = (
        f"simulated   {files.interferogram}, source: {files.source_name}",
        scoring_text(result),
        f"deformation IoU against the known truth: {said}",
    )
    return payload, "\n".join(lines)
