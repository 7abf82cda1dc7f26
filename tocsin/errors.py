"""Every error that tocsin raises on purpose: what was given, what was expected, what to do.

The tree, with the exit code of the command line and the HTTP status of the service::

    TocsinError
    |-- UsageError                 usage                2  400  ValueError
    |-- ProductExistsError         product_exists       2  409  ValueError
    |-- NotARasterError            not_a_raster         3  415  ValueError
    |-- TruncatedError             truncated            3  400  ValueError
    |-- TooLargeError              too_large            3  413  ValueError
    |-- WrongBandsError            wrong_bands          3  422  ValueError
    |-- WrongUnitsError            wrong_units          3  422  ValueError
    |-- GridMismatchError          grid_mismatch        3  422  ValueError
    |-- NoGeoreferenceError        no_georeference      3  422  ValueError
    |-- NotCoveringError           not_covering         3  422  ValueError
    |-- WrongDatesError            wrong_dates          3  422  ValueError
    |-- ForbiddenReferenceError    forbidden_reference  3  403  ValueError
    |-- ModelUnknownError          model_unknown        4  404  LookupError
    |-- ModelInvalidError          model_invalid        4  500  ValueError
    |-- RuntimeUnavailableError    runtime_unavailable  5  503  RuntimeError
    |-- DeadlineExceededError      deadline_exceeded    5  504  RuntimeError
    |-- QueueFullError             queue_full           5  429  RuntimeError
    |-- StorageFullError           storage_full         5  507  RuntimeError
    |-- InterruptedScoringError    interrupted          6  503  RuntimeError
    |-- UnauthorizedError          unauthorized         2  401  ValueError
    |-- NotFoundError              not_found            4  404  LookupError
    |-- MethodNotAllowedError      method_not_allowed   2  405  ValueError
    |-- QuotaExceededError         quota_exceeded       5  429  RuntimeError
    `-- InternalError              internal             1  500  RuntimeError

The last five are the service's own: over HTTP only, or where a client repeats what the service answered.

Codes, exit codes and statuses are a promise to users: a script may branch on them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final


class TocsinError(Exception):
    """Base of the tree; raised only through its children.

    Parameters
    ----------
    given
        What the caller passed, concrete enough to find it again (a path, a value, a count).
    expected
        What would have been accepted.
    todo
        What to do next, as an imperative ("pass --units linear").

    Attributes
    ----------
    code
        Stable machine-readable name, as in ``warnings`` and HTTP bodies.
    exit_code
        Exit status of the command line.
    http_status
        Status of the service.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, given: str, expected: str, todo: str) -> None:
        # All three go to Exception.args, so that an error survives pickling between batch workers.
        super().__init__(given, expected, todo)
        self.given = given
        self.expected = expected
        self.todo = todo

    def __str__(self) -> str:
        """Say the three parts in one line."""
        return f"given {self.given}; expected {self.expected}; do this: {self.todo}"


class UsageError(TocsinError, ValueError):
    """An option or argument that cannot be meant as it stands."""

    code = "usage"
    exit_code = 2
    http_status = 400


class ProductExistsError(TocsinError, ValueError):
    """A product is already there and overwriting was not asked for."""

    code = "product_exists"
    exit_code = 2
    http_status = 409


class NotARasterError(TocsinError, ValueError):
    """A file that is no raster of an accepted format."""

    code = "not_a_raster"
    exit_code = 3
    http_status = 415


class TruncatedError(TocsinError, ValueError):
    """A raster whose header promises data that the file does not hold."""

    code = "truncated"
    exit_code = 3
    http_status = 400


class TooLargeError(TocsinError, ValueError):
    """A raster over the limits on pixels, width or size of one block."""

    code = "too_large"
    exit_code = 3
    http_status = 413


class WrongBandsError(TocsinError, ValueError):
    """Bands that are missing, too many or not to be told apart."""

    code = "wrong_bands"
    exit_code = 3
    http_status = 422


class WrongUnitsError(TocsinError, ValueError):
    """Values that cannot be in the unit that was stated."""

    code = "wrong_units"
    exit_code = 3
    http_status = 422


class GridMismatchError(TocsinError, ValueError):
    """Files that must share a grid and do not, or a grid that is rotated."""

    code = "grid_mismatch"
    exit_code = 3
    http_status = 422


class NoGeoreferenceError(TocsinError, ValueError):
    """A raster or vector file that does not say where on Earth it lies."""

    code = "no_georeference"
    exit_code = 3
    http_status = 422


class NotCoveringError(TocsinError, ValueError):
    """A second input that does not touch the scene."""

    code = "not_covering"
    exit_code = 3
    http_status = 422


class WrongDatesError(TocsinError, ValueError):
    """Acquisition times in an order that makes no sense."""

    code = "wrong_dates"
    exit_code = 3
    http_status = 422


class ForbiddenReferenceError(TocsinError, ValueError):
    """A file or name that would make tocsin open something else, local or remote."""

    code = "forbidden_reference"
    exit_code = 3
    http_status = 403


class ModelUnknownError(TocsinError, LookupError):
    """A model, version or precision that the repository does not hold."""

    code = "model_unknown"
    exit_code = 4
    http_status = 404


class ModelInvalidError(TocsinError, ValueError):
    """A model whose manifest or files are not what they say."""

    code = "model_invalid"
    exit_code = 4
    http_status = 500


class RuntimeUnavailableError(TocsinError, RuntimeError):
    """A runtime or device that was asked for and is not there."""

    code = "runtime_unavailable"
    exit_code = 5
    http_status = 503


class DeadlineExceededError(TocsinError, RuntimeError):
    """Work that did not end within the time it was given."""

    code = "deadline_exceeded"
    exit_code = 5
    http_status = 504


class QueueFullError(TocsinError, RuntimeError):
    """More work than the service accepts at a time."""

    code = "queue_full"
    exit_code = 5
    http_status = 429


class StorageFullError(TocsinError, RuntimeError):
    """No room left to write a product."""

    code = "storage_full"
    exit_code = 5
    http_status = 507


class InterruptedScoringError(TocsinError, RuntimeError):
    """Scoring that a person or a signal stopped; no partial product is left."""

    code = "interrupted"
    exit_code = 6
    # The contract has no HTTP row for it: a service that is stopped is unavailable.
    http_status = 503


class UnauthorizedError(TocsinError, ValueError):
    """A request without a token that the service knows."""

    code = "unauthorized"
    exit_code = 2
    http_status = 401


class NotFoundError(TocsinError, LookupError):
    """A path, job or product that the service does not hold, or not for this token."""

    code = "not_found"
    exit_code = 4
    http_status = 404


class MethodNotAllowedError(TocsinError, ValueError):
    """A path of the service that takes other methods."""

    code = "method_not_allowed"
    exit_code = 2
    http_status = 405


class QuotaExceededError(TocsinError, RuntimeError):
    """More requests or jobs than one token may have."""

    code = "quota_exceeded"
    exit_code = 5
    http_status = 429


class InternalError(TocsinError, RuntimeError):
    """A defect of the service, which its log explains under the id of the request."""

    code = "internal"
    exit_code = 1
    http_status = 500


BY_CODE: Final[Mapping[str, type[TocsinError]]] = MappingProxyType(
    {
        kind.code: kind
        for kind in list(globals().values())
        if isinstance(kind, type) and issubclass(kind, TocsinError) and kind is not TocsinError
    }
)
"""Every error of the tree by its code, for who reads a code and raises what it means."""


def error_of(code: str, given: str, expected: str, todo: str) -> TocsinError:
    """Return the error of a code, as a job store or a service tells it; an unknown one is told as internal."""
    kind = BY_CODE.get(code)
    return InternalError(f"{given} ({code})", expected, todo) if kind is None else kind(given, expected, todo)
