"""One error shape for the whole app: title, detail, status (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
_SHAPE = {
    "type": "object",
    "required": ["title", "detail", "status"],
    "additionalProperties": False,
    "properties": {
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "status": {"type": "integer"},
    },
}
_MEANINGS = {
    400: "The request asks for what this index cannot answer; the detail says what it can.",
    401: "The access token is missing.",
    403: "The request comes from another site, or without the token of a page.",
    404: "There is no such sample, mode or repair, or nothing of this kind was found yet.",
    405: "The address does not take this method.",
    409: "Another job or process is writing, or the index changed since the page was loaded, or it "
    "does not fit the model or this version of failsearch.",
    413: "The request is larger than this server takes.",
    421: "This server answers only under its own host name.",
    422: "A parameter is missing or is not of its type.",
    500: "The database cannot be read or written, or the server has a fault.",
    507: "The disk is full; nothing that was there is lost.",
}
HEADINGS = {
    400: "This cannot be answered",
    401: "No access",
    403: "Refused",
    404: "Not found",
    405: "Not done this way",
    409: "Not as things stand",
    413: "Too large",
    421: "Another address",
    422: "This address does not fit",
    500: "Something broke",
    507: "The disk is full",
}
"""What a page says above the detail of an error."""
_PLAIN = {
    404: "there is nothing at this address",
    405: "this address does not take this method",
}
DESCRIBED: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {MEDIA_TYPE: {"schema": _SHAPE}}}
    for status, meaning in _MEANINGS.items()
}
"""The errors of every route, for the OpenAPI description."""


def detail_of(status: int, detail: str) -> str:
    """Return the detail of an error, in words where it only repeats the name of its status."""
    return _PLAIN.get(status, detail) if detail == HTTPStatus(status).phrase else detail


def problem_response(status: int, detail: str) -> JSONResponse:
    """Return an error as `application/problem+json`."""
    body = {"title": HTTPStatus(status).phrase, "detail": detail, "status": status}
    return JSONResponse(body, status, media_type=MEDIA_TYPE)
