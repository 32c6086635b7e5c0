"""The map: all failures in two dimensions, coloured by mode."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from indexer.progress import Progress

from ..state import State
from ..templating import render
from .common import App

router = APIRouter()


@router.get("/map", response_class=HTMLResponse, include_in_schema=False)
def map_page(request: Request, state: App) -> HTMLResponse:
    """Show the map; its points are fetched by the page."""
    return render(
        request,
        "map.html",
        failures=state.gallery.failures,
        modes=state.modes.modes if state.modes else (),
        made=state.map is not None,
        job=state.jobs.current,
    )


@router.get("/api/map")
def map_json(state: App) -> dict[str, Any]:
    """Return id, place in the unit square, mode, label and prediction of every failure."""
    found = state.map
    if found is None:
        raise HTTPException(404, "the map has not been laid out yet: ask for it first")
    modes = state.modes.modes if state.modes else ()
    number = {sample: i for i, mode in enumerate(modes) for sample in mode.samples}
    rows = state.gallery.rows
    samples = rows.sample_table(rows.positions(found.ids))
    return {
        "modes": [{"id": mode.id, "name": mode.name} for mode in modes],
        "ids": list(found.ids),
        "x": found.places[:, 0].round(4).tolist(),
        "y": found.places[:, 1].round(4).tolist(),
        "mode": [number.get(sample, -1) for sample in found.ids],
        "label": samples["label_name"].to_pylist(),
        "prediction": samples["prediction_name"].to_pylist(),
    }


@router.post("/api/map/make", status_code=202)
def make(state: App) -> dict[str, Any]:
    """Lay out the failures, in the background."""
    return state.jobs.start("Laying out the map", lambda step: _make(state, step)).to_json()


def _make(state: State, step: Progress) -> str:
    with step("Placing failures with similar profiles near each other", 0, 0):
        state.make_map()
    return "/map"
