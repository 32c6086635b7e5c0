"""Search: by one id, by several liked ones, or by an image that is not in the index."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from search.neighbours import SearchSettings, search
from search.predicates import FAILURES

from ..state import State
from ..templating import render
from .common import App, Text

router = APIRouter()

Ids = Annotated[list[str], Query(alias="id", max_length=50)]
Expressions = Annotated[list[str], Query(alias="filter", max_length=20)]
Count = Annotated[int, Query(ge=1, le=200)]
Among = Literal["failures", "all"]


@router.get("/search", response_class=HTMLResponse, include_in_schema=False)
def search_page(
    request: Request,
    state: App,
    id: Ids = [],  # noqa: B006
    k: Count = 24,
    among: Among = "failures",
    filter: Expressions = [],  # noqa: B006
) -> HTMLResponse:
    """Show a search, with results where samples are given."""
    ids = [text.strip() for text in id if text.strip()]
    filters = [text for text in filter if text.strip()]
    return render(
        request,
        "search.html",
        found=neighbours(state, ids, k, among, filters) if ids else None,
        queries=state.gallery.samples(ids),
        chosen={"id": ids, "k": k, "among": among, "filter": filters},
        classes=state.gallery.classes,
        columns=state.gallery.names,
        example=example(state),
    )


@router.get("/api/search")
def search_json(
    state: App,
    id: Annotated[list[str], Query(min_length=1, max_length=50)],
    k: Count = 24,
    among: Among = "failures",
    filter: Expressions = [],  # noqa: B006
) -> dict[str, Any]:
    """Return the neighbours of a sample, or of several liked ones together."""
    return neighbours(state, id, k, among, filter)


@router.post(
    "/api/search",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def search_image(
    request: Request,
    state: App,
    label: Text,
    k: Count = 24,
    among: Among = "failures",
    filter: Expressions = [],  # noqa: B006
) -> dict[str, Any]:
    """Return the neighbours of an image, whose file is the body, under its true class."""
    from starlette.concurrency import run_in_threadpool

    data = await request.body()
    if not data:
        raise HTTPException(400, "send the file of the image as the body")
    settings = SearchSettings(k=k, among=among, filters=tuple(t for t in filter if t.strip()))
    result = await run_in_threadpool(lambda: state.models.search(data, label, settings))
    return result.to_json()


def example(state: State) -> str:
    """Return the id that the empty form shows: that of the worst mistake."""
    return next((one["id"] for one in state.gallery.page([FAILURES], size=1).samples), "")


def neighbours(
    state: State, ids: list[str], k: int, among: Among, filters: list[str]
) -> dict[str, Any]:
    """Search by ids; raises UnknownSampleError or FilterError."""
    settings = SearchSettings(k=k, among=among, filters=tuple(filters))
    return search(state.index.store, ids[0] if len(ids) == 1 else ids, settings).to_json()
