"""The options that commands share: one name, one environment variable, one sentence each.

A default of None means that the default of the options model behind the command holds: a default lives in one place.
"""

from pathlib import Path
from typing import Annotated

import typer

RUN = "How it runs"
WRITE = "What is written"

Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Folder of the products; made when missing.", rich_help_panel=WRITE
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        envvar="TOCSIN_OVERWRITE",
        help="Replace products that exist; refused otherwise.",
        rich_help_panel=WRITE,
    ),
]
Gpkg = Annotated[
    bool, typer.Option("--gpkg", help="Write the polygons as a GeoPackage as well.", rich_help_panel=WRITE)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only print the plan: windows, expected peak memory, bytes to write.", rich_help_panel=WRITE
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", envvar="TOCSIN_JSON", help="Print one JSON object on stdout and nothing else.", rich_help_panel=WRITE
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", envvar="TOCSIN_QUIET", help="No progress bar; only errors on stderr.", rich_help_panel=WRITE
    ),
]
ModelRepository = Annotated[
    Path | None,
    typer.Option(
        "--model-repository",
        metavar="DIR",
        envvar="TOCSIN_MODEL_REPOSITORY",
        help="Folder of the models; the shipped one by default.",
        rich_help_panel=RUN,
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="onnx|tensorrt|tensorrt-rtx|grpc://H:P|http://H:P",
        envvar="TOCSIN_RUNTIME",
        help="What runs the graph: onnx by default; what is not there is refused, never replaced.",
        rich_help_panel=RUN,
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="cpu|cuda", envvar="TOCSIN_DEVICE", help="cpu by default.", rich_help_panel=RUN),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="fp32|fp16|int8",
        envvar="TOCSIN_PRECISION",
        help="Which of the model's graphs; fp32 by default.",
        rich_help_panel=RUN,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        envvar="TOCSIN_THREADS",
        help="CPU threads of the graph; all cores by default.",
        rich_help_panel=RUN,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        metavar="PX",
        envvar="TOCSIN_OVERLAP",
        help="Pixels that neighbouring windows share; an eighth of a chip by default.",
        rich_help_panel=RUN,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="P",
        envvar="TOCSIN_THRESHOLD",
        help="Probability from which a pixel counts; the model's own by default.",
        rich_help_panel=RUN,
    ),
]
Service = Annotated[
    str | None,
    typer.Option(
        "--service",
        metavar="URL",
        envvar="TOCSIN_SERVICE",
        help="Score by this service, with the token in TOCSIN_TOKEN; this machine by default.",
        rich_help_panel=RUN,
    ),
]
