"""tocsin turns satellite scenes into decision products for floods, landslides and volcanic deformation.

>>> import tocsin
>>> result = tocsin.score("flood", post="scene.tif", out="products/")  # doctest: +SKIP

Names are loaded on first use, so that ``import tocsin`` costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin import errors
    from tocsin.client import AsyncClient, Client
    from tocsin.result import Result
    from tocsin.scoring import Scorer, score

__all__ = ["AsyncClient", "Client", "Result", "Scorer", "__version__", "errors", "score"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    from importlib import import_module

    if name == "errors":
        return import_module("tocsin.errors")
    if name in {"AsyncClient", "Client"}:
        return getattr(import_module("tocsin.client"), name)
    if name in {"Scorer", "score"}:
        return getattr(import_module("tocsin.scoring"), name)
    if name == "Result":
        return import_module("tocsin.result").Result
    msg = f"module 'tocsin' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Return the public names, also those that are not loaded yet."""
    return __all__
