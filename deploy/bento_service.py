"""What a bento starts: the service of the wheel inside it. Beside it lie the wheel and the pins of all it needs."""

from bentoml.images import Image

from serving.service import Tocsin

# BentoML copies the sources last: a requirement that is one of them has to be named.
Tocsin.image = Image(python_version="3.11", lock_python_packages=False).build_include("wheels")

__all__ = ["Tocsin"]
