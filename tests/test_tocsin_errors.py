"""Codes, exit codes and statuses are a promise to scripts."""

import pickle

import pytest

from tocsin import errors
from tocsin.errors import TocsinError

PROMISED = {
    "usage": (2, 400),
    "product_exists": (2, 409),
    "not_a_raster": (3, 415),
    "truncated": (3, 400),
    "too_large": (3, 413),
    "wrong_bands": (3, 422),
    "wrong_units": (3, 422),
    "grid_mismatch": (3, 422),
    "no_georeference": (3, 422),
    "not_covering": (3, 422),
    "wrong_dates": (3, 422),
    "forbidden_reference": (3, 403),
    "model_unknown": (4, 404),
    "model_invalid": (4, 500),
    "runtime_unavailable": (5, 503),
    "deadline_exceeded": (5, 504),
    "queue_full": (5, 429),
    "storage_full": (5, 507),
    "interrupted": (6, 503),
    "unauthorized": (2, 401),
    "not_found": (4, 404),
    "method_not_allowed": (2, 405),
    "quota_exceeded": (5, 429),
    "internal": (1, 500),
}
CHILDREN = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__base__ is TocsinError]


def test_every_row_of_the_contract_is_one_error():
    """The tree holds exactly the promised codes and those of the service, each with its exit code and status."""
    assert {kind.code: (kind.exit_code, kind.http_status) for kind in CHILDREN} == PROMISED


@pytest.mark.parametrize("kind", CHILDREN)
def test_error_says_given_expected_and_what_to_do(kind):
    """A message has three parts, survives pickling, and the error is also of a built-in kind."""
    error = kind("one band", "two bands", "pass VV.tif;VH.tif")
    assert str(error) == "given one band; expected two bands; do this: pass VV.tif;VH.tif"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.todo) == (kind, str(error), error.todo)
    assert isinstance(error, ValueError | LookupError | RuntimeError)


def test_docstring_draws_the_whole_tree():
    """The module's docstring names every error with its code and both numbers."""
    for kind in CHILDREN:
        row = next(line for line in errors.__doc__.splitlines() if kind.__name__ in line)
        assert row.split()[-4:-1] == [kind.code, str(kind.exit_code), str(kind.http_status)]


def test_a_code_becomes_its_error_again():
    """Every code comes back as its own error, and one that no list holds as `internal`, named."""
    assert errors.BY_CODE.keys() == PROMISED.keys()
    for code, kind in errors.BY_CODE.items():
        assert type(errors.error_of(code, "a", "b", "c")) is kind
    unknown = errors.error_of("no_such_code", "a", "b", "c")
    assert (unknown.code, unknown.given) == ("internal", "a (no_such_code)")
