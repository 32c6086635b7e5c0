"""Rendering of pages."""

from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.responses import HTMLResponse

from indexer.errors import FailsearchError

from .environment import ENVIRONMENT
from .problems import HEADINGS


def render(request: Request, template: str, **values: Any) -> HTMLResponse:
    """Return a page."""
    return _rendered(request, template, request.app.state.failsearch.page_context(), values)


def _rendered(
    request: Request, template: str, context: dict[str, Any], values: dict[str, Any]
) -> HTMLResponse:
    page = "/" + request.url.path.strip("/").split("/")[0]
    return HTMLResponse(
        ENVIRONMENT.get_template(template).render(
            **context,
            form_token=request.app.state.guard.form_token,
            page=page,
            **values,
        )
    )


def is_page_request(request: Request) -> bool:
    """Whether a browser asked for a page, so that an error should be one as well."""
    is_api = request.url.path.startswith("/api/")
    return not is_api and "text/html" in request.headers.get("accept", "")


def render_problem(request: Request, status: int, detail: str) -> HTMLResponse:
    """Return an error as a page."""
    state = request.app.state.failsearch
    try:
        context = state.page_context()
    except (FailsearchError, OSError):  # the index itself is gone
        context = {"version": 0, "database": str(state.index.path), "model_name": ""}
    page = _rendered(request, "problem.html", context, _said(status, detail))
    page.status_code = status
    return page


def render_refusal(status: int, detail: str) -> HTMLResponse:
    """Return an error as a page that tells nothing of the index."""
    return HTMLResponse(
        ENVIRONMENT.get_template("refused.html").render(_said(status, detail)), status
    )


def _said(status: int, detail: str) -> dict[str, str]:
    return {"title": HEADINGS.get(status, HTTPStatus(status).phrase), "detail": detail}
