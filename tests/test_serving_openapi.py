"""The OpenAPI document is whole, has an example for every body, and is what the routes do."""

import json
import re

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("jsonschema", reason="needs the extra dev")

import jsonschema

from serving import openapi_examples as examples
from serving.app import create_app
from serving.forms import HAZARDS, INPUTS, values_model
from serving.gate.inputs import FILES
from serving.jobs.job import Accepted, End, JobError, NewJob, now
from serving.jobs.store import Facts
from serving.jobs.webhooks import message_of
from serving.openapi import document
from serving.problems import ERRORS, problem
from serving.settings import ServiceSettings
from serving.views import JobView
from tocsin.errors import UsageError
from tocsin.result import Result


@pytest.fixture(scope="module")
def whole():
    """Return the document."""
    return document(ServiceSettings())


def check(whole, schema, value):
    """Check a value against a schema of the document."""
    kind = jsonschema.Draft202012Validator
    found = kind({**schema, "components": whole["components"]}, format_checker=kind.FORMAT_CHECKER)
    found.validate(value)


def operations(whole):
    """Yield path, method and operation."""
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def test_every_route_is_documented_and_nothing_else(tmp_path, whole):
    """Paths and methods of the document are those of the application."""
    app = create_app(ServiceSettings(state=tmp_path))
    routes = {(route.path, method.lower()) for route in app.routes for method in route.methods}
    documented = {(path, method) for path, method, _ in operations(whole)}
    # HEAD comes with GET; it is documented where it is of use.
    assert documented <= routes
    assert {each for each in routes - documented if each[1] != "head"} == set()


def test_every_reference_leads_somewhere(whole):
    """Every $ref names a schema that is there."""
    for name in re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(whole)):
        assert name in whole["components"]["schemas"]


def test_examples_are_what_their_schemas_say(whole):
    """Every example of a body is valid against the schema beside it."""
    seen = 0
    for _, _, operation in operations(whole):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (each for body in bodies for each in body.get("content", {}).values()):
            if "example" in content:
                check(whole, content["schema"], content["example"])
                seen += 1
    assert seen >= 12


def test_examples_are_what_the_models_say():
    """The examples are objects of our own models too."""
    Result.model_validate_json(json.dumps(examples.RESULT))
    Result.model_validate_json(json.dumps(examples.PLAN))
    JobView.model_validate_json(json.dumps(examples.DONE))


def test_problems_are_what_the_document_says(whole):
    """A problem is valid where its code is documented, and nowhere else."""
    body = json.loads(problem(UsageError("a", "b", "c"), "id").body)
    check(whole, {"$ref": "#/components/schemas/Problem"}, body)
    responses = whole["paths"]["/v1/flood"]["post"]["responses"]
    check(whole, responses["400"]["content"]["application/problem+json"]["schema"], body)
    with pytest.raises(jsonschema.ValidationError):
        check(whole, responses["415"]["content"]["application/problem+json"]["schema"], body)


def test_every_code_of_a_scoring_is_under_its_status(whole):
    """What a scoring may be refused with is documented under the status of its error."""
    responses = whole["paths"]["/v1/volcano"]["post"]["responses"]
    for status, response in responses.items():
        if status >= "400":
            codes = response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert {ERRORS[code].http_status for code in codes} == {int(status)}


@pytest.mark.parametrize("hazard", HAZARDS)
@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json"])
def test_bodies_hold_every_input(whole, hazard, kind):
    """A form and a JSON body have every input of the hazard, as Python has, and what is required there."""
    schema = whole["paths"][f"/v1/{hazard}"]["post"]["requestBody"]["content"][kind]["schema"]
    fields = INPUTS[hazard].model_fields
    assert set(fields) <= set(schema["properties"])
    item = {"item"} if kind == "application/json" else set()
    assert set(schema["properties"]) == set(FILES[hazard]) | set(values_model(hazard).model_fields) | item
    required = schema["anyOf"][0]["required"] if item else schema["required"]
    assert set(required) == {name for name, field in fields.items() if field.is_required()}


def test_a_webhook_is_what_the_document_says(whole):
    """What is told of a job that failed is valid against the documented body, and so is the example."""
    order = NewJob(token="desk", hazard="flood", inputs={"post": "in/post-0/scene.tif"})
    error = JobError.of(UsageError("a", "b", "c"))
    end = End(state="failed", ended=now(), error=error)
    body = json.loads(message_of(Facts(accepted=Accepted(order=order, created=now()), end=end)))
    told = whole["webhooks"]["job.ended"]["post"]["requestBody"]["content"]["application/json"]
    for each in (body, told["example"]):
        check(whole, told["schema"], each)


def test_what_needs_no_token_says_so(whole):
    """The two probes need no token; everything else does."""
    free = {path for path, _, operation in operations(whole) if operation.get("security") == []}
    assert free == {"/livez", "/readyz"}
