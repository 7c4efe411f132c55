"""The OpenAPI 3.1 description of /api/v1, made from the table of operations.

Knows how an `Operation` and the structs of `wire.rest` are written in OpenAPI
(spec.openapis.org/oas/v3.1.0). Must not know any particular operation: what is described is what
is served, because both come from the same table (`roost.api.routes.OPERATIONS`).

Always holds: every operation appears, with its parameters, bodies and the one form of errors;
every struct appears once, under components/schemas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from roost import __version__
from roost.wire import rest

_PATH_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Query(Struct, frozen=True):
    """A parameter of the query string."""

    name: str
    type: Any
    text: str


class Operation(Struct, frozen=True):
    """One method on one path, as it is served and as it is described."""

    method: str
    path: str
    """In Starlette's form: `/api/v1/jobs/{id:int}`."""
    function: Callable[..., Any]
    """Takes the gateway and the request. The first line of its docstring is the summary."""
    answer: Any
    """Type of the JSON answer, or the media type (a `str`) of another one."""
    body: Any = None
    queries: tuple[Query, ...] = ()
    status: int = 200


def description(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document as plain data."""
    types = [rest.ErrorBody]
    types += [op.answer for op in operations if not isinstance(op.answer, str)]
    types += [op.body for op in operations if op.body is not None]
    types += [query.type for op in operations for query in op.queries]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PATH_PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Roost",
            "version": __version__,
            "description": "A compute and render farm. Moments are milliseconds since 1970, UTC.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _key(type_: Any) -> str:
    return repr(type_)


def _operation(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    summary, _, text = (operation.function.__doc__ or "").strip().partition("\n")
    described: dict[str, Any] = {
        "operationId": operation.function.__name__,
        "summary": summary,
        "parameters": [*_parameters(operation, schema_of)],
        "responses": {
            str(operation.status): {
                "description": "Success.",
                "content": _content(operation.answer, schema_of),
            },
            "default": {
                "description": "A refusal, or a failure.",
                "content": _content(rest.ErrorBody, schema_of),
            },
        },
    }
    if text.strip():
        described["description"] = " ".join(text.split())
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": _content(operation.body, schema_of),
        }
    return described


def _parameters(operation: Operation, schema_of: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name, convertor in _PATH_PARAMETER.findall(operation.path):
        schema = {"type": "integer"} if convertor == "int" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for query in operation.queries:
        schema = schema_of[_key(query.type)]
        described = {"name": query.name, "in": "query", "description": query.text, "schema": schema}
        if schema.get("type") == "array":
            described["explode"] = False  # written `a,b`
        yield described


def _content(type_: Any, schema_of: dict[str, Any]) -> dict[str, Any]:
    if isinstance(type_, str):
        return {type_: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schema_of[_key(type_)]}}
