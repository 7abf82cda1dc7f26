"""The OpenAPI 3.1 document of the service: made from the models that the routes use, so that the two cannot part."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import tocsin
from serving import openapi_examples as examples
from serving.forms import AOI, HAZARDS, INPUTS, values_model
from serving.gate.inputs import FILES
from serving.gate.references import ITEM
from serving.problems import ERRORS, MEDIA_TYPE, Problem, title
from serving.products_api import MEDIA_TYPES
from serving.settings import ServiceSettings
from serving.views import CodeView, JobEnded, JobList, JobView, ModelList
from tocsin.result import Hazard, Result

Json = dict[str, Any]

ALWAYS: Final = ("unauthorized", "quota_exceeded", "internal", "runtime_unavailable", "storage_full")
"""Codes that any request with a token may be answered with."""
SCORING: Final = tuple(code for code in ERRORS if code not in {"not_found", "method_not_allowed", "product_exists"})

_SCHEMAS: Final = (Result, JobView, JobList, ModelList, Problem, CodeView, JobEnded)
_MAPPED: Final[Mapping[Hazard, str]] = {
    "flood": "water and flood water",
    "landslide": "landslides",
    "volcano": "volcanic deformation",
}


@cache
def document(settings: ServiceSettings) -> Json:
    """Return the document of a service."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tocsin",
            "version": tocsin.__version__,
            "summary": "Scenes in, decision products out",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": settings.public_url or "/"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in ("score", "jobs", "models", "operations")],
        "paths": _paths(),
        "webhooks": {"job.ended": {"post": _told()}},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made by `tocsin token new`"}
            },
        },
    }


_DESCRIPTION: Final = (
    "A small scene is answered with its result, a larger one with a job that is asked for until it is done. Products "
    "are links and take range requests, so that QGIS, GDAL and titiler read them in place. Whatever fails is a problem "
    "of RFC 9457 with a code to branch on. Without a token the service answers this machine only, and needs none."
)


def _paths() -> Json:
    scoring = {f"/v1/{hazard}": {"post": _score(hazard)} for hazard in HAZARDS}
    planning = {f"/v1/{hazard}:plan": {"post": _plan(hazard)} for hazard in HAZARDS}
    job = [_path_parameter("job", "of a job", examples.RUNNING["id"])]
    product = [*job, _path_parameter("file", "name of a product", "scene_class.tif")]
    return {
        **scoring,
        **planning,
        "/v1/jobs": {
            "get": _get("listJobs", "jobs", "Jobs of the token, the newest first", JobList, ["usage"], _LIMIT)
        },
        "/v1/jobs/{job}": {
            "parameters": job,
            "get": _get("getJob", "jobs", "State, progress, place in the queue and result", JobView, ["not_found"]),
            "delete": _get("cancelJob", "jobs", "Cancel; what has ended stays as it is", JobView, ["not_found"]),
        },
        "/v1/products/{job}/{file}": {
            "parameters": product,
            "get": _product("getProduct", "Download a product, or ranges of it"),
            "head": _product("headProduct", "Size, media type and ETag of a product"),
        },
        "/v1/models": {
            "get": _get("listModels", "models", "Models that can run", ModelList, ["model_invalid", "model_unknown"])
        },
        "/v1/problems/{code}": {
            "parameters": [_path_parameter("code", "of a problem", "wrong_units")],
            "get": _get("getCode", "operations", "What a code means", CodeView, ["not_found"]),
        },
        "/v1/openapi.json": {"get": _get("getDocument", "operations", "This document", None, [])},
        "/livez": {"get": _open(_get("livez", "operations", "The process answers", None, []))},
        "/readyz": {"get": _readyz()},
        "/metrics": {"get": _metrics()},
    }


def _score(hazard: Hazard) -> Json:
    job = {"X-Job-ID": _header("id of the job that scored it"), "Location": _header("the job")}
    waiting = {**job, "Retry-After": _header("seconds after which to look again", "integer")}
    return {
        "operationId": f"score{hazard.capitalize()}",
        "tags": ["score"],
        "summary": f"Map {_MAPPED[hazard]} in one scene",
        "parameters": [_IDEMPOTENCY, _PREFER],
        "requestBody": _body(hazard),
        "responses": {
            "200": {**_json("Result", "scored; products are links", examples.RESULT), "headers": job},
            "202": {**_json("JobView", "accepted; the job says when it is done", examples.RUNNING), "headers": waiting},
            **_problems(SCORING),
        },
    }


def _plan(hazard: Hazard) -> Json:
    return {
        "operationId": f"plan{hazard.capitalize()}",
        "tags": ["score"],
        "summary": "What the same request would cost: windows, expected peak memory, bytes to write",
        "requestBody": _body(hazard),
        "responses": {"200": _json("Result", "the summary is a plan", examples.PLAN), **_problems(SCORING)},
    }


def _body(hazard: Hazard) -> Json:
    """Return what a request may hold: files in a form, or references in JSON, under the same names."""
    inputs, files = INPUTS[hazard], FILES[hazard]
    values = values_model(hazard).model_json_schema(ref_template=_REF)["properties"]
    required = [name for name, field in inputs.model_fields.items() if field.is_required()]
    said = {name: inputs.model_fields[name].description for name in files if name in inputs.model_fields}
    said[AOI] = "polygons; outside them all is no data"

    def schema(one: Json, extra: Json) -> Json:
        fields = {name: {**_repeated(one, most), "description": said[name]} for name, most in files.items()}
        return {"type": "object", "properties": {**fields, **extra, **values}, "additionalProperties": False}

    form = {**schema(_FILE, {}), "required": required}
    # An item names the inputs itself.
    body = {**schema(_REFERENCE, {ITEM: _ITEM}), "anyOf": [{"required": required}, {"required": [ITEM]}]}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": body, "example": examples.REFERENCES[hazard]},
    }
    return {"required": True, "content": content}


def _repeated(one: Json, most: int) -> Json:
    several = {"type": "array", "items": one, "minItems": 1, "maxItems": most}
    if one is _REFERENCE:
        return {"anyOf": [one, several]}
    return one if most == 1 else several


def _get(
    operation: str, tag: str, summary: str, model: type[BaseModel] | None, codes: Iterable[str], *parameters: Json
) -> Json:
    """Return an operation that answers one model in JSON."""
    example = {JobView: examples.DONE, JobList: {"jobs": [examples.RUNNING]}}.get(model) if model else None
    said = (
        _json(model.__name__, summary, example)
        if model
        else {"description": summary, "content": {"application/json": {}}}
    )
    found = {
        "operationId": operation,
        "tags": [tag],
        "summary": summary,
        "responses": {"200": said, **_problems((*ALWAYS, *codes))},
    }
    return {**found, "parameters": list(parameters)} if parameters else found


def _product(operation: str, summary: str) -> Json:
    content: Json = {name: {} for name in sorted(set(MEDIA_TYPES.values()))}
    headers = {"ETag": _header("changes with the product"), "Accept-Ranges": _header("bytes")}
    parts = {**content, "multipart/byteranges": {}}
    responses = {
        "200": {"description": "the whole product", "headers": headers, "content": content},
        "206": {"description": "the ranges that were asked for", "headers": headers, "content": parts},
        "304": {"description": "what If-None-Match names is still so"},
        "416": _problem("no such range", ["usage"]),
        **_problems((*ALWAYS, "not_found")),
    }
    names = {"Range": "bytes=0-1023", "If-None-Match": '"etag"', "If-Range": '"etag"'}
    parameters = [
        {"name": name, "in": "header", "schema": {"type": "string"}, "example": example}
        for name, example in names.items()
    ]
    return {
        "operationId": operation,
        "tags": ["jobs"],
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    }


def _told() -> Json:
    """Return what a webhook is called with; the answer's body is not read."""
    headers = {
        "webhook-id": "of the message; the same when it comes twice",
        "webhook-timestamp": "seconds since 1970 at which it was signed",
        "webhook-signature": "v1, and the base64 of HMAC-SHA256 over ID.TIMESTAMP.BODY (standardwebhooks.com)",
    }
    return {
        "operationId": "jobEnded",
        "tags": ["jobs"],
        "summary": "A job has ended whose request named a webhook",
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": said, "schema": {"type": "string"}}
            for name, said in headers.items()
        ],
        "requestBody": {"required": True, **_json("JobEnded", "the job, without its result", examples.ENDED)},
        "responses": {"2XX": {"description": "heard; anything else is tried again, later and later"}},
    }


def _readyz() -> Json:
    found = _open(_get("readyz", "operations", "Every model judged a chip just now", None, []))
    found["responses"]["503"] = {"description": "what failed, by code", "content": {"application/json": {}}}
    return found


def _metrics() -> Json:
    found = _get("metrics", "operations", "Figures in the text format of Prometheus", None, [])
    found["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


def _open(operation: Json) -> Json:
    """Return an operation that needs no token."""
    responses = {status: each for status, each in operation["responses"].items() if status in {"200", "429", "500"}}
    return {**operation, "security": [], "responses": responses}


def _problems(codes: Iterable[str]) -> Json:
    """Return the responses to what may fail, by status, each with the codes that it may carry."""
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(ERRORS[code].http_status, []).append(code)
    return {
        str(status): _problem("; ".join(f"`{code}`: {title(ERRORS[code])}" for code in group), group)
        for status, group in sorted(by_status.items())
    }


def _problem(description: str, codes: list[str]) -> Json:
    narrowed = {"allOf": [{"$ref": _REF.format(model="Problem")}, {"properties": {"code": {"enum": codes}}}]}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": narrowed}}}


def _json(name: str, description: str, example: Json | None = None) -> Json:
    content: Json = {"schema": {"$ref": _REF.format(model=name)}}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}}


def _schemas() -> Json:
    _, made = models_json_schema([(model, "serialization") for model in _SCHEMAS], ref_template=_REF)
    found: Json = made["$defs"]
    return found


def _path_parameter(name: str, description: str, example: str) -> Json:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


def _header(description: str, kind: str = "string") -> Json:
    return {"description": description, "schema": {"type": kind}}


_REF: Final = "#/components/schemas/{model}"
_FILE: Final[Json] = {"type": "string", "contentMediaType": "image/tiff"}
_REFERENCE: Final[Json] = {"type": "string", "format": "uri", "pattern": "^(https|s3)://"}
_ITEM: Final[Json] = {**_REFERENCE, "description": "STAC item whose assets are the inputs, by role or band"}
_LIMIT: Final[Json] = {
    "name": "limit",
    "in": "query",
    "description": "most jobs of the answer",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999, "default": 100},
}
_IDEMPOTENCY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key with the same request is the same job, however often it is sent",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "2f1c9a2e-7d4b-4a52-9a55-0c9f3f1f9b10",
}
_PREFER: Final[Json] = {
    "name": "Prefer",
    "in": "header",
    "description": "respond-async: a job at once, for a small scene too",
    "schema": {"type": "string"},
    "example": "respond-async",
}
