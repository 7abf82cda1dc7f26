"""`tocsin demo`: a simulated flood, scored, and compared with what is known."""

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli import options as common
from tocsin.cli.output import checked, emit, set_up_logging
from tocsin.cli.report import scoring_text


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
    """Simulate a flood scene, score it, and compare the map with the known truth."""
    set_up_logging(quiet=quiet)
    from tocsin.evaluation import compare_with_truth
    from tocsin.scoring import ScoringOptions, score
    from tocsin.simulate import write_flood_scene

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
    text = f"simulated   {files.post}\n{scoring_text(result)}\nwater IoU against the known truth: {said}"
    emit(payload, as_json=json, text=text)
