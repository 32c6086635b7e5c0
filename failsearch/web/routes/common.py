"""What the routes share: parameters, the state of the app, files to download."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from fastapi import Body, Depends, Query, Request
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from search.export import write_table

from ..state import State

VERSION_HEADER = "x-failsearch-version"
MEDIA_TYPES = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/jsonl",
}

# An id of a sample is a parameter and never a part of the path: ids hold slashes and dots.
SampleId = Annotated[str, Query(alias="id", min_length=1, max_length=2000)]
Text = Annotated[str, Query(max_length=2000)]
Field = Annotated[str, Body(min_length=1, max_length=2000)]


def state_of(request: Request) -> State:
    """Return the state of the app that answers a request."""
    return request.app.state.failsearch


App = Annotated[State, Depends(state_of)]


def require_version(request: Request) -> None:
    """Refuse a request of a page that shows another version of the samples than there is now."""
    shown = request.headers.get(VERSION_HEADER)
    if shown is not None and shown != str(state_of(request).gallery.version):
        raise HTTPException(409, "the index has changed since this page was loaded: reload it")


def download(table: pa.Table, name: str, form: str) -> FileResponse:
    """Return a table as a file to save; `form` is "csv", "parquet" or "jsonl"."""
    with tempfile.NamedTemporaryFile(suffix=f".{form}", delete=False) as file:
        path = Path(file.name)
    try:
        write_table(table, path, form)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(
        path,
        filename=f"{name}.{form}",
        media_type=MEDIA_TYPES[form],
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def answers(*media_types: str) -> dict[str, Any]:
    """Return what a route that answers with a file says of itself in the description."""
    content = {media_type: {} for media_type in media_types}
    return {"response_class": Response, "responses": {200: {"content": content}}}
