"""Failure modes: cards, one mode, and the edits a person makes."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import HTMLResponse

from indexer.progress import Progress
from search.modes import form_mode, merge_modes, rename_mode, split_mode

from ..state import State
from ..templating import render
from .common import App, Field

router = APIRouter()
SHOWN = 60
"""Members on the page of a mode; the gallery has the rest."""


@router.get("/modes", response_class=HTMLResponse, include_in_schema=False)
def modes_page(request: Request, state: App) -> HTMLResponse:
    """Show the modes as cards."""
    return render(
        request,
        "modes.html",
        report=state.modes,
        failures=state.gallery.failures,
        job=state.jobs.current,
    )


@router.get("/modes/{mode}", response_class=HTMLResponse, include_in_schema=False)
def mode_page(request: Request, state: App, mode: str) -> HTMLResponse:
    """Show one mode."""
    report = state.modes or state.index.modes
    found = report.mode(mode)
    return render(
        request,
        "mode.html",
        mode=found,
        members=state.gallery.samples(found.samples[:SHOWN]),
        exemplars=state.gallery.samples(found.exemplars),
        at_risk=state.gallery.samples(found.at_risk),
        others=[(one.id, one.name) for one in report.modes if one.id != mode],
        repairs=[one for one in state.repairs if one["mode"] == mode],
        job=state.jobs.current,
    )


@router.get("/api/modes")
def modes_json(state: App) -> dict[str, Any]:
    """Return the modes found so far."""
    return (state.modes or state.index.modes).to_json()


@router.post("/api/modes/find", status_code=202)
def find(state: App) -> dict[str, Any]:
    """Group the failures into modes, in the background."""
    return state.jobs.start("Grouping the failures", lambda step: _find(state, step)).to_json()


@router.post("/api/modes/rename")
def rename(state: App, id: Field, name: Annotated[str, Body(max_length=200)]) -> dict[str, Any]:
    """Give a mode another name."""
    return rename_mode(state.index.store, id, name).mode(id).to_json()


@router.post("/api/modes/merge")
def merge(state: App, ids: Annotated[list[str], Body(embed=True, max_length=50)]) -> dict[str, Any]:
    """Make one mode of several; it keeps the id of the first."""
    return merge_modes(state.index.store, ids).mode(ids[0]).to_json()


@router.post("/api/modes/split")
def split(state: App, id: Field, parts: Annotated[int, Body(ge=2, le=20)] = 2) -> dict[str, Any]:
    """Split a mode into parts; the largest keeps its id."""
    return split_mode(state.index.store, id, parts).to_json()


@router.post("/api/modes/form")
def form(
    state: App, samples: Annotated[list[str], Body(embed=True, max_length=100_000)]
) -> dict[str, Any]:
    """Make a mode of chosen failures, taking them out of the modes that they are in."""
    known = {mode.id for mode in (state.modes or state.index.modes).modes}
    report = form_mode(state.index.store, samples)
    return next(mode for mode in report.modes if mode.id not in known).to_json()


def _find(state: State, step: Progress) -> str:
    state.index.find_modes(replace_edited=True, progress=step)
    return "/modes"
