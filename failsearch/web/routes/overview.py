"""The first page: how good the model is, where it fails, and what was found so far."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from search.predicates import FAILURES

from ..templating import render
from .common import App

router = APIRouter()
SUREST = 24


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def overview(request: Request, state: App) -> HTMLResponse:
    """Show the overview."""
    gallery = state.gallery
    confusion = gallery.confusion
    findings = state.findings
    return render(
        request,
        "overview.html",
        **confusion.summary(),
        surest=gallery.page([FAILURES], size=SUREST).samples,
        pairs=confusion.pairs()[:12],
        worst=confusion.worst_classes()[:12],
        matrix=confusion.drawn(),
        modes=state.modes.modes if state.modes else (),
        findings=None if findings is None else len(findings),
        decided=len(state.decisions),
        repairs=len(state.repairs),
        rejected=state.rejected,
        manifest=state.index.manifest,
    )


@router.get("/api/overview")
def overview_json(state: App) -> dict[str, Any]:
    """Return accuracy, confused pairs and worst classes."""
    gallery = state.gallery
    confusion = gallery.confusion
    return {
        "version": gallery.version,
        **confusion.summary(),
        "pairs": confusion.pairs()[:100],
        "worst_classes": confusion.worst_classes()[:100],
    }
