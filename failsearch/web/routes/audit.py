"""The review queue: suspects with evidence, decisions, and the corrected manifest."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from starlette.responses import HTMLResponse, Response

from indexer.progress import Progress
from search.audit.decisions import corrected_manifest, decide
from search.audit.report import Finding
from search.audit.settings import CAUSES, DUPLICATES, FILTERS, KINDS, LABELS

from ..state import State
from ..templating import render
from .common import App, Field, answers, download

router = APIRouter()
SHOWN = 200
EVIDENCE = 6
"""Images beside a suspect."""

Kind = Literal["labels", "duplicates", "causes", "filters"]
REVIEWED = (LABELS, DUPLICATES)
"""Kinds whose subject is a sample, on which a person decides."""
TITLES = {
    LABELS: "Wrong labels",
    DUPLICATES: "Duplicates",
    CAUSES: "Causes",
    FILTERS: "Weak filters",
}
ABOUT = {
    LABELS: "Images whose label neither the model nor similar images support, the least "
    "believable first.",
    DUPLICATES: "Images that are nearly the same; where their labels differ, one of them is wrong.",
    CAUSES: "What the images of a failure mode have in common, beside correct images of the same "
    "classes.",
    FILTERS: "Filters that stand out in many failures, and the images where they do.",
}


@router.get("/audit", response_class=HTMLResponse, include_in_schema=False)
def audit_page(request: Request, state: App, kind: Kind | None = None) -> HTMLResponse:
    """Show the findings of one kind, undecided ones first; of the first that has any."""
    report = state.findings
    kinds = [
        {"kind": name, "title": TITLES[name], "count": len(report.of(name)) if report else 0}
        for name in KINDS
    ]
    filled = [one for one in kinds if one["count"]]
    chosen = kind or (filled or kinds)[0]["kind"]
    decisions = state.decisions
    found = report.of(chosen) if report else ()
    queue = [_entry(state, finding, decisions) for finding in found[:SHOWN]]
    queue.sort(key=lambda entry: entry["decision"] is not None)
    return render(
        request,
        "audit.html",
        report=report,
        kind=chosen,
        about=ABOUT[chosen],
        review=chosen in REVIEWED,
        kinds=kinds,
        others=filled,
        queue=queue,
        open=sum(entry["decision"] is None for entry in queue),
        decided=len(decisions),
        classes=state.snapshot.classes,
        job=state.jobs.current,
    )


@router.get("/api/audit")
def findings_json(state: App, kind: Kind = "labels") -> dict[str, Any]:
    """Return the findings of one kind and all decisions."""
    report = state.findings
    found = report.of(kind) if report else ()
    return {
        "findings": [finding.to_json() for finding in found],
        "decisions": list(state.decisions.values()),
    }


@router.post("/api/audit/run", status_code=202)
def run(state: App) -> dict[str, Any]:
    """Look for suspects, in the background."""
    return state.jobs.start("Auditing the data set", lambda step: _audit(state, step)).to_json()


@router.post("/api/audit/decide")
def decide_json(
    state: App,
    id: Field,
    verdict: Field,
    right: Annotated[str | None, Body(max_length=2000)] = None,
) -> dict[str, Any]:
    """Store a decision on one sample."""
    return decide(state.index.store, id, verdict, right)


@router.get("/api/audit/manifest.csv", **answers("text/csv"))
def manifest(state: App) -> Response:
    """Return the data set with the decisions applied, as a manifest to index or train on."""
    return download(corrected_manifest(state.index.store, state.decisions), "corrected", "csv")


def _entry(state: State, finding: Finding, decisions: dict[str, Any]) -> dict[str, Any]:
    """Return a finding with the samples that its page shows."""
    shown = state.snapshot.samples(finding.samples[: 1 + EVIDENCE])
    suspect = state.snapshot.sample(finding.subject) if finding.kind in REVIEWED else None
    choices = []
    if suspect is not None:
        names = [finding.suggested_name, *(entry["name"] for entry in suspect["top"])]
        distinct = dict.fromkeys(name for name in names if name)
        choices = [name for name in distinct if name != suspect["label_name"]][:5]
    return {
        **finding.to_json(),
        "suspect": suspect,
        "mode": dict(state.mode_names()).get(finding.subject),
        "choices": choices,
        "shown": [sample for sample in shown if sample["id"] != finding.subject],
        "decision": decisions.get(finding.subject),
    }


def _audit(state: State, step: Progress) -> str:
    with step("Looking for wrong labels, duplicates, causes and weak filters", 0, 0):
        state.index.audit()
    return "/audit"
