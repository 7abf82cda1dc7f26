"""Where the Triton server of the wheel nvidia-pytriton lies, and whether its Python stub can run here."""

import ctypes
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tocsin.errors import RuntimeUnavailableError

VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON: Final = f"libpython{VERSION}.so.1.0"


@dataclass(frozen=True)
class Installation:
    """What is needed to start a server.

    Attributes
    ----------
    server : pathlib.Path
        The executable.
    backend : pathlib.Path
        Folder of the Python backend.
    stub : pathlib.Path
        What the server starts for each model instance: the interpreter of this Python version.
    libraries : tuple of pathlib.Path
        Folders for the dynamic loader.
    """

    server: Path
    backend: Path
    stub: Path
    libraries: tuple[Path, ...]

    def environment(self) -> dict[str, str]:
        """Return the variables of the server's process: its libraries, and this interpreter before any other."""
        folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        libraries = [*map(str, self.libraries), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            "PATH": os.pathsep.join(filter(None, folders)),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        }


def find_installation() -> Installation:
    """Return the server of this environment.

    Raises
    ------
    RuntimeUnavailableError
        The wheel, the stub of this Python version or libpython is not there, or numpy is too new for the stub.
    """
    package = find_spec("pytriton")
    if package is None or package.origin is None:
        raise RuntimeUnavailableError(
            "an environment without the package nvidia-pytriton, which brings the server",
            "the extra triton",
            "pip install -c constraints-triton.txt 'tocsin[cpu,triton]'",
        )
    numpy = metadata.version("numpy")
    if int(numpy.partition(".")[0]) >= 2:
        raise RuntimeUnavailableError(
            f"numpy {numpy} beside the server's Python stub, with which every output is empty",
            "numpy below 2",
            "pip install -c constraints-triton.txt 'tocsin[cpu,triton]'",
        )
    root = Path(package.origin).parent / "tritonserver"
    stub = root / "python_backend_stubs" / VERSION / "triton_python_backend_stub"
    if not stub.is_file():
        there = ", ".join(sorted(path.name for path in stub.parent.parent.glob("*"))) or "none"
        raise RuntimeUnavailableError(
            f"Python {VERSION} on {platform.machine()}", f"one of {there}", "make the environment with one of these"
        )
    return Installation(
        server=root / "bin" / "tritonserver",
        backend=root / "backends" / "python",
        stub=stub,
        libraries=(_libpython(), root.parent.parent / "nvidia_pytriton.libs"),
    )


def _libpython() -> Path:
    """Return the folder of the interpreter's own library; where that is built in, of the system's."""
    own = Path(sysconfig.get_config_var("LIBDIR") or "") / LIBPYTHON
    if own.is_file():
        return own.parent
    try:
        ctypes.CDLL(LIBPYTHON)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"a machine without {LIBPYTHON}, which the server's Python stub needs ({error})",
            "the shared library of this Python version",
            f"apt-get install libpython{VERSION}, or use a Python that was built with --enable-shared",
        ) from error
    return Path("/usr/lib") / f"{platform.machine()}-linux-gnu"
