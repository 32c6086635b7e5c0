"""The gallery of samples: filter, sort, page and export."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from search.listing import with_modes
from search.predicates import FAILURES, Filter, parse_filter

from ..gallery import Gallery, Page
from ..state import State
from ..templating import render
from .common import MEDIA_TYPES, App, Text, answers, download

router = APIRouter()
PAGE_SIZE = 60

Expressions = Annotated[list[str], Query(alias="filter", max_length=20)]
Number = Annotated[int, Query(ge=1, le=10_000_000, alias="page")]


@dataclass(frozen=True)
class Selection:
    """What a gallery shows, as it stands in the address."""

    label: str
    prediction: str
    mode: str
    among: Literal["failures", "all"]
    sort: str
    filter: list[str]

    def filters(self, gallery: Gallery) -> list[Filter]:
        """Return the conditions; raises FilterError where one does not parse."""
        found = [] if self.among == "all" else [FAILURES]
        found += [Filter("label_name", "=", self.label)] if self.label else []
        found += [Filter("prediction_name", "=", self.prediction)] if self.prediction else []
        schema, classes = gallery.table.schema, gallery.classes
        return found + [parse_filter(text, schema, classes) for text in self.filter]

    def members(self, state: State) -> tuple[str, ...] | None:
        """Return the members of the mode that was chosen; raises UnknownSampleError."""
        return (state.modes or state.index.modes).mode(self.mode).samples if self.mode else None


def selection(
    label: Text = "",
    prediction: Text = "",
    mode: Text = "",
    among: Literal["failures", "all"] = "failures",
    sort: Text = "-loss",
    filter: Expressions = [],  # noqa: B006
) -> Selection:
    """Read a selection from the address."""
    expressions = [text for text in filter if text.strip()]
    return Selection(label, prediction, mode, among, sort, expressions)


Selected = Annotated[Selection, Depends(selection)]


@router.get("/failures", response_class=HTMLResponse, include_in_schema=False)
def failures(request: Request, state: App, chosen: Selected, page: Number = 1) -> HTMLResponse:
    """Show a gallery page."""
    gallery = state.gallery
    return render(
        request,
        "failures.html",
        found=_page(state, chosen, page),
        chosen=asdict(chosen),
        classes=gallery.classes,
        columns=gallery.names,
        modes=state.mode_names(),
        failures=gallery.failures,
    )


@router.get("/api/failures")
def failures_json(state: App, chosen: Selected, page: Number = 1) -> dict[str, Any]:
    """Return one page of the gallery."""
    gallery = state.gallery
    found = _page(state, chosen, page)
    return {
        "version": gallery.version,
        "failures": found.samples,
        "total": found.total,
        "page": found.number,
        "pages": found.last,
    }


@router.get("/api/failures/export", **answers(*MEDIA_TYPES.values()))
def export(
    state: App, chosen: Selected, form: Literal["csv", "parquet", "jsonl"] = "csv"
) -> Response:
    """Return everything that a gallery shows, as one file."""
    gallery = state.gallery
    table = gallery.listing(chosen.filters(gallery), ids=chosen.members(state), sort=chosen.sort)
    return download(with_modes(table, state.modes), "failures", form)


def _page(state: State, chosen: Selection, number: int) -> Page:
    return state.gallery.page(
        chosen.filters(state.gallery),
        ids=chosen.members(state),
        sort=chosen.sort,
        number=number,
        size=PAGE_SIZE,
    )
