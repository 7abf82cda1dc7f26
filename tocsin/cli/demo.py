"""`tocsin demo`: a flood, landslides and an interferogram, simulated, scored, and compared with what is known."""

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
    """Simulate a flood, landslides and an interferogram, score them, and compare the maps with the known truth."""
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
    for name, run in (("landslide", _landslide), ("volcano", _volcano)):
        if name in list_models(model_repository):
            payload[name], said = run(out / name, options)
        else:
            payload[name], said = None, f"no model {name} in this repository: nothing was simulated for it"
        text += f"\n\n{said}"
    emit(payload, as_json=json, text=text)


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


def _landslide(out: Path, options: "ScoringOptions") -> tuple[dict[str, Any], str]:
    """Simulate, score and judge landslides: the number on observed ground, and pixels told apart."""
    import numpy as np

    from tocsin.detection_figures import auroc
    from tocsin.evaluation import first_band
    from tocsin.scoring import score
    from tocsin.simulate import write_landslides

    files = write_landslides(out / "scene")
    result = score(
        "landslide",
        out=out / "products",
        options=options,
        pre=files.pre,
        post=files.post,
        dem=files.dem,
        orbit_pass=files.orbit_pass,
        incidence_deg=files.incidence_deg,
    )
    mask, truth = first_band(Path(result.products["mask"])), first_band(files.truth) == 1
    observed = np.isfinite(mask)
    known = int(observed[tuple(files.heads.T)].sum())
    area = auroc(mask[observed], truth[observed])
    payload = {
        "auroc": area,
        "landslides": known,
        "truth": str(files.truth),
        "result": result.model_dump(mode="json"),
    }
    lines = (
        f"simulated   {files.post[0]} and {len(files.pre) + len(files.post) - 1} others",
        scoring_text(result),
        f"known truth: {known} landslides begin on observed ground",
        f"AUROC of the mask's pixels against the known truth: {'nothing slid' if area is None else f'{area:.3f}'}",
    )
    return payload, "\n".join(lines)


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
