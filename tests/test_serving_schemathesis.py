"""Whatever a client makes of the OpenAPI document, the service answers as the document says, and never with 500."""

import pytest

pytest.importorskip("bentoml", reason="needs the extra serve")
pytest.importorskip("schemathesis", reason="needs the extra dev")

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_stand_ins import listening, settings_of

from serving.app import create_app
from serving.openapi import document
from serving.settings import ServiceSettings

pytestmark = pytest.mark.slow

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schema = schemathesis.openapi.from_dict(document(ServiceSettings()))
SAME = "^/v1/(flood:plan|landslide|volcano)"
"""Paths that share their code and most of their schema with /v1/flood: a few requests each are enough."""
QUIET = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory, small_models):
    """Return the address of a running service; it waits for no job, so that a queue builds up too."""
    settings = settings_of(tmp_path_factory.mktemp("state"), small_models, sync_wait_s=0.2, queue_length=20)
    with listening(create_app(settings)) as where:
        yield where


@schema.exclude(path_regex=SAME).parametrize()
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate], **QUIET)
def test_the_service_does_what_its_document_says(case, address):
    """No answer has a status, media type, header or body that the document does not hold, and none is a 500."""
    case.call_and_validate(base_url=address, checks=CHECKS)


@schema.include(path_regex=SAME).parametrize()
@settings(max_examples=8, phases=[Phase.generate], **QUIET)
def test_so_do_its_other_hazards_and_plans(case, address):
    """Every other scoring and planning path does so too."""
    case.call_and_validate(base_url=address, checks=CHECKS)
