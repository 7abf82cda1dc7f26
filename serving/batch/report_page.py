"""One page with a table and a map that opens without a network: of scenes in `report`, of zones in `zones`.

Jinja2 escapes all that it fills in. The rows lie in the page as JSON, in which no character can end the element; the
script sets names as text and never as markup; and the page's own policy lets only that script and style run, so that a
scene called ``<script>`` is a name like any other.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any, BinaryIO, Final, Literal

Kind = Literal["rank", "picture", "name", "text", "finding", "number", "share", "probability", "time"]
"""How a column is shown and sorted; `name` and `finding` head the detail of a row."""

_DECIMALS: Final = 4
"""Of degrees on the map: 11 m, far below what it shows."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table.

    Attributes
    ----------
    title : str
        Its head.
    kind : str
        How it is shown and sorted.
    width : str
        In CSS.
    about : str
        What a pointer on its head says.
    choose : bool
        Whether the page offers a choice of its values.
    """

    title: str
    kind: Kind
    width: str
    about: str = ""
    choose: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure above the table; the tone gives its colour."""

    label: str
    value: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """How many rows have a code."""

    code: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page says beside its rows.

    Attributes
    ----------
    title, subtitle : str
        Its head.
    noun : str
        What a row is, singular.
    search : str
        What the search field says.
    columns : sequence of Column
        Of the table.
    tones : mapping of str to str
        Title of each tone (`found`, `nothing`, `unknown`, `failed`), the most urgent first.
    tiles, failures, notes
        Figures above, codes of what failed, and how to read it all.
    without_script : str
        Where the same stands for who runs no script.
    """

    title: str
    subtitle: str
    noun: str
    search: str
    columns: Sequence[Column]
    tones: dict[str, str]
    without_script: str
    tiles: Sequence[Tile] = ()
    failures: Sequence[Failure] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row.

    Attributes
    ----------
    cells : sequence
        A text, number or None for each column.
    tone : str
        One of the page's.
    rings : sequence
        Rings of longitude and latitude on the map; holes by the even-odd rule.
    picture : str or None
        Link to it, relative and quoted.
    links : sequence of (str, str)
        Title and relative, quoted link.
    more : sequence of (str, str)
        What the detail says: title and text.
    weight : float or None
        Opacity on the map, 0-1; None: by its tone.
    """

    cells: Sequence[str | float | None]
    tone: str
    rings: Sequence[Sequence[tuple[float, float]]] = ()
    picture: str | None = None
    links: Sequence[tuple[str, str]] = ()
    more: Sequence[tuple[str, str]] = field(default=())
    weight: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the script reads, short names and nothing that is absent."""
        known = {
            "c": self.cells,
            "t": self.tone,
            "g": self.rings,
            "i": self.picture,
            "l": self.links,
            "m": self.more,
            "w": self.weight,
        }
        return {name: value for name, value in known.items() if value is not None and value != ()}


def write_page(file: BinaryIO, page: Page, rows: Iterable[Row]) -> None:
    """Write a page while its rows come.

    Parameters
    ----------
    file
        Open for writing.
    page
        What stands around the rows.
    rows
        Read once, as a stream.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("serving.batch") / "page"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))

    def template(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(template))
    settings = {
        "noun": page.noun,
        "columns": [asdict(column) for column in page.columns],
        "tones": [{"name": name, "title": title} for name, title in page.tones.items()],
    }
    stream = environment.get_template("page.html.j2").stream(
        page=page,
        settings=settings,
        rows=(row.as_json() for row in rows),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    stream.enable_buffering(64)
    file.writelines(text.encode() for text in stream)


def rings_of(geometry: dict[str, Any], tolerance: float = 0.0) -> list[list[tuple[float, float]]]:
    """Return the rings of a GeoJSON Polygon or MultiPolygon for the map, exteriors and holes alike.

    Parameters
    ----------
    geometry
        In degrees.
    tolerance
        How far a point may lie from the simplified line, degrees; 0 keeps corners only.
    """
    from shapely.geometry import shape

    simple = shape(geometry).simplify(max(tolerance, 10**-_DECIMALS), preserve_topology=True)
    found = [ring for part in getattr(simple, "geoms", [simple]) for ring in (part.exterior, *part.interiors)]
    return [[(round(x, _DECIMALS), round(y, _DECIMALS)) for x, y in ring.coords[:-1]] for ring in found]


def _hash(text: str) -> str:
    """Return the source expression of Content Security Policy for an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
