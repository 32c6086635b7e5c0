"""The review queue: suspects with evidence, decisions, and the corrected manifest."""

from importlib.util import find_spec
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import HTMLResponse, Response

from indexer.errors import SettingError
from indexer.progress import Progress
from search.audit.corrected import corrected_manifest
from search.audit.decisions import decide
from search.audit.report import Finding
from search.audit.settings import (
    CAUSES,
    CLEANLAB,
    DUPLICATES,
    EXTRAS,
    FILTERS,
    IMAGES,
    KINDS,
    LABELS,
    LEAKS,
    title_of,
)

from ..state import State
from ..templating import render
from .common import App, Field, Text, answers, download

router = APIRouter()
SHOWN = 200
EVIDENCE = 6
"""Images beside a suspect."""
CHOICES = 5
"""Labels that are offered for a suspect."""

ABOUT = {
    LABELS: "Images whose label neither the model nor similar images support, the least "
    "believable first.",
    DUPLICATES: "Images that are nearly the same; where their labels differ, one of them is wrong.",
    LEAKS: "Images that another index holds too, such as validation images seen in training.",
    CAUSES: "What the images of a failure mode have in common, beside correct images of the same "
    "classes.",
    FILTERS: "Filters that stand out in failures more often than in correct images, by more than "
    "chance, and the failures where they do.",
    CLEANLAB: "What cleanlab suspects beyond the other kinds: labels, images unlike all others, "
    "and images that are nearly the same to the model. Its scores run from 0, the worst, to 1.",
    IMAGES: "What cleanlab's image checks (cleanvision) see: dark, light, blurred, empty, gray and "
    "oddly shaped images, and copies beyond the duplicates. Its scores run from 0, the worst, to "
    "1.",
}


@router.get("/audit", response_class=HTMLResponse, include_in_schema=False)
def audit_page(request: Request, state: App, kind: Text | None = None) -> HTMLResponse:
    """Show the findings of one kind, undecided ones first; of the first that has any."""
    report = state.findings
    kinds = [
        {"kind": name, "title": title_of(name), "count": report.total(name) if report else 0}
        for name in _kinds(state)
    ]
    filled = [one for one in kinds if one["count"]]
    chosen = (filled or kinds)[0]["kind"] if kind is None else _known(state, kind)
    decisions = state.decisions
    found = report.of(chosen) if report else ()
    queue = [_entry(state, finding, decisions) for finding in found[:SHOWN]]
    queue.sort(key=lambda entry: entry["decision"] is not None)
    return render(
        request,
        "audit.html",
        report=report,
        kind=chosen,
        about=ABOUT.get(chosen, ""),
        review=any(entry["suspect"] for entry in queue),
        relabel=any(entry["choices"] for entry in queue),
        kinds=kinds,
        total=report.total(chosen) if report else 0,
        others=filled,
        about_modes=chosen in (CAUSES, FILTERS),
        queue=queue,
        open=sum(bool(entry["suspect"]) and entry["decision"] is None for entry in queue),
        decided=len(decisions),
        classes=state.gallery.classes,
        extras=all(map(find_spec, ("cleanlab", "cleanvision", "datasets"))),
        job=state.jobs.current,
    )


@router.get("/api/audit")
def findings_json(state: App, kind: Text = LABELS) -> dict[str, Any]:
    """Return the findings of one kind, how many there are, kept or not, and all decisions."""
    report, kind = state.findings, _known(state, kind)
    found = report.of(kind) if report else ()
    return {
        "findings": [finding.to_json() for finding in found],
        "total": report.total(kind) if report else 0,
        "decisions": list(state.decisions.values()),
    }


@router.post("/api/audit/run", status_code=202)
def run(state: App, cleanlab: bool = False) -> dict[str, Any]:
    """Look for suspects, in the background; with `cleanlab`, ask it and its image checks too."""
    kinds = KINDS + EXTRAS if cleanlab else KINDS
    job = state.jobs.start("Auditing the data set", lambda step: _audit(state, kinds, step))
    return job.to_json()


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
    """Return the data set with the decisions applied; images are named by path, or source and row.

    Where the images are files, it is a manifest to index or train on.
    """
    return download(corrected_manifest(state.index.store, state.decisions), "corrected", "csv")


def _kinds(state: State) -> tuple[str, ...]:
    """Return the kinds that the page has: those of every audit, and what else was found."""
    return state.findings.kinds if state.findings else KINDS


def _known(state: State, kind: str) -> str:
    known = dict.fromkeys((*_kinds(state), *EXTRAS))
    if kind not in known:
        raise SettingError(f"no kind of finding {kind!r}: choose {', '.join(known)}")
    return kind


def _entry(state: State, finding: Finding, decisions: dict[str, Any]) -> dict[str, Any]:
    """Return a finding with the samples that its page shows."""
    shown = state.gallery.samples(finding.samples[: 1 + EVIDENCE])
    # A person decides on a sample; modes, filters and issues of the data set are no samples.
    about_sample = finding.samples[:1] == (finding.subject,)
    suspect = state.gallery.sample(finding.subject) if about_sample else None
    names = {mode: name for mode, name in state.mode_names() if mode in finding.modes}
    return {
        **finding.to_json(),
        "suspect": suspect,
        "mode": names.pop(finding.subject, None),
        "serves": names,
        "choices": [] if suspect is None else _choices(state, finding, suspect),
        "shown": [sample for sample in shown if sample["id"] != finding.subject],
        "beside": state.gallery.samples(finding.beside),
        "decision": decisions.get(finding.subject),
    }


def _choices(state: State, finding: Finding, suspect: dict[str, Any]) -> list[str]:
    """Return the labels that are offered instead of a suspect's, the likeliest first.

    Of copies of one image, only what another of them is labelled; of how an image looks, nothing.
    """
    if finding.kind == IMAGES:
        return []
    likely = [entry["name"] for entry in suspect["top"]]
    copied = finding.copied_labels
    if copied is not None:
        # Another index, that the copy may be of, can have labels that are no classes of this one.
        known = {*state.gallery.classes}.intersection(copied)
        likely = [name for name in (*likely, *copied) if name in known]
    names = dict.fromkeys((finding.suggested_name, *likely))
    return [name for name in names if name and name != suspect["label_name"]][:CHOICES]


def _audit(state: State, kinds: tuple[str, ...], step: Progress) -> str:
    state.index.audit(kinds=kinds, progress=step)
    return "/audit"
