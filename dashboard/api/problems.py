"""Errors of the API as RFC 9457 says them: `application/problem+json`."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from moodwire.errors import BadInput, MoodwireError

log = logging.getLogger("dashboard.api")
MEDIA = "application/problem+json"
SCHEMA = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "detail"],
                "properties": {"in": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
WHEN = {
    401: "No login, or one that holds no more.",
    403: "The login may not do this.",
    404: "There is no such thing.",
    422: "The question cannot be understood; the detail says why.",
    429: "Asked too often; `Retry-After` says when to ask again.",
    503: "The store cannot be used now, or too many listen; ask again later.",
}


def problem(
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    return Response(msgspec.json.encode(body), status, dict(headers or {}), MEDIA)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    example = {"type": "about:blank", "title": "", "status": 0, "detail": "in words"}
    return {
        status: {
            "description": WHEN[status],
            "content": {
                MEDIA: {
                    "schema": SCHEMA,
                    "example": {**example, "title": HTTPStatus(status).phrase, "status": status},
                }
            },
        }
        for status in statuses
    }


def refused(_: Request, error: HTTPException) -> Response:
    return problem(error.status_code, str(error.detail), headers=error.headers)


def register(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def unreadable(_: Request, error: RequestValidationError) -> Response:
        faults = [
            {"in": ".".join(str(part) for part in fault["loc"]), "detail": str(fault["msg"])}
            for fault in error.errors()
        ]
        return problem(422, "; ".join(f"{fault['in']}: {fault['detail']}" for fault in faults), faults)

    app.exception_handler(HTTPException)(refused)

    @app.exception_handler(BadInput)
    def bad(_: Request, error: BadInput) -> Response:
        return problem(422, str(error))

    @app.exception_handler(MoodwireError)
    def unusable(_: Request, error: MoodwireError) -> Response:
        log.error("%s", error)
        return problem(503, str(error), headers={"Retry-After": "5"})

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception) -> Response:
        log.error("%s could not be answered", request.url.path, exc_info=error)
        return problem(500, "a fault in moodwire; its log tells more")
