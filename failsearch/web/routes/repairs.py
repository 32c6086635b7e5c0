"""Repairs: start one from a mode, read its account, look at what changed, take the patch."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse

from finetune.records import read_repair
from indexer.patched import PATCH_FILE
from indexer.schema import REPAIRS

from ..state import State
from ..templating import render
from .common import App, answers

router = APIRouter()
SHOWN = 60
CHANGES = ("fixed", "broken", "still wrong")


@router.get("/repairs", response_class=HTMLResponse, include_in_schema=False)
def repairs_page(request: Request, state: App) -> HTMLResponse:
    """Show all repairs, the form that starts one, and the progress of the one that runs."""
    return render(
        request,
        "repairs.html",
        repairs=state.repairs,
        modes=state.modes.modes if state.modes else (),
        failures=state.gallery.failures,
        job=state.jobs.current,
    )


@router.get("/repairs/{repair}", response_class=HTMLResponse, include_in_schema=False)
def repair_page(request: Request, state: App, repair: str) -> HTMLResponse:
    """Show one repair."""
    report, samples = read_repair(state.index.store, repair)
    return render(
        request,
        "repair.html",
        report=report,
        groups=[(change, *_changed(state, samples.to_pylist(), change)) for change in CHANGES],
        has_patch=(state.index.path / REPAIRS / report["id"] / PATCH_FILE).exists(),
        classes=state.gallery.classes,
        job=state.jobs.current,
    )


@router.get("/api/repairs")
def repairs_json(state: App) -> dict[str, Any]:
    """Return the reports of all repairs, newest first."""
    return {"repairs": [_public(report) for report in state.repairs]}


@router.post("/api/repairs", status_code=202)
def start(
    state: App,
    mode: Annotated[str, Body(max_length=2000)],
    max_drop: Annotated[float, Body(ge=0, le=100)] = 0.1,
) -> dict[str, Any]:
    """Search for a repair of a mode, in the background; watch it at `/api/job`.

    It may cost `max_drop` points of accuracy on the images that it is chosen by.
    """
    found = (state.modes or state.index.modes).mode(mode)

    def work(step: Any) -> str:
        report = state.index.repair_mode(mode, progress=step, max_drop=max_drop / 100)
        return f"/repairs/{report.id}"

    return state.jobs.start(f"Repairing {found.name}", work).to_json()


@router.get("/api/repairs/{repair}/patch", **answers("application/octet-stream"))
def patch(state: App, repair: str) -> FileResponse:
    """Return the patch of a repair."""
    # The id of the record, not the text of the request, makes the path.
    report, _ = read_repair(state.index.store, repair)
    path = state.index.path / REPAIRS / report["id"] / PATCH_FILE
    if not path.exists():
        raise HTTPException(404, f"repair {repair} found no change worth a patch")
    return FileResponse(
        path, filename=f"{report['id']}.{PATCH_FILE}", media_type="application/octet-stream"
    )


def _changed(
    state: State, affected: list[dict[str, Any]], change: str
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many samples changed in a way, and the first of them to show."""
    rows = [row for row in affected if row["change"] == change]
    # Members of the repaired group first, then the surest mistakes.
    rows.sort(key=lambda row: (not row["in_group"], -row["confidence_after"]))
    samples = state.gallery.samples([row["id"] for row in rows[:SHOWN]])
    classes = state.gallery.classes
    return len(rows), [
        {
            **sample,
            "before": classes[row["before"]],
            "after": classes[row["after"]],
            "split": row["split"],
            "in_group": row["in_group"],
        }
        for sample, row in zip(samples, rows, strict=False)
    ]


def _public(report: dict[str, Any]) -> dict[str, Any]:
    """Leave out where on this machine files lie."""
    return {key: value for key, value in report.items() if key not in ("patch", "model")}
