"""The first page: how good the model is, where it fails, and what was found so far."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from search.predicates import FAILURES

from ..snapshot import Snapshot
from ..templating import render
from .common import App

router = APIRouter()
SUREST = 24
MATRIX_CLASSES = 24
"""A confusion matrix with more classes than this is cut to the most confused ones."""


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def overview(request: Request, state: App) -> HTMLResponse:
    """Show the overview."""
    snapshot = state.snapshot
    findings = state.findings
    return render(
        request,
        "overview.html",
        **summary(snapshot),
        surest=snapshot.page([FAILURES], size=SUREST).samples,
        pairs=confused_pairs(snapshot)[:12],
        worst=worst_classes(snapshot)[:12],
        matrix=matrix(snapshot),
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
    snapshot = state.snapshot
    return {
        "version": snapshot.version,
        **summary(snapshot),
        "pairs": confused_pairs(snapshot)[:100],
        "worst_classes": worst_classes(snapshot)[:100],
    }


def summary(snapshot: Snapshot) -> dict[str, Any]:
    """Return the figures at the head of the page."""
    return {
        "samples": len(snapshot.table),
        "failures": snapshot.failures,
        "accuracy": snapshot.accuracy,
        "classes": len(snapshot.classes),
    }


def confused_pairs(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return (label, prediction) pairs by count, most frequent first."""
    counts = snapshot.confusion.copy()
    np.fill_diagonal(counts, 0)
    label, prediction = np.nonzero(counts)
    order = np.argsort(-counts[label, prediction], kind="stable")
    return [
        {
            "label": snapshot.classes[label[i]],
            "prediction": snapshot.classes[prediction[i]],
            "count": int(counts[label[i], prediction[i]]),
        }
        for i in order
    ]


def worst_classes(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return classes with their samples, failures and accuracy, worst first."""
    totals = snapshot.confusion.sum(1)
    failed = totals - snapshot.confusion.diagonal()
    share = failed / np.maximum(totals, 1)
    return [
        {
            "name": snapshot.classes[c],
            "samples": int(totals[c]),
            "failures": int(failed[c]),
            "accuracy": float(1 - share[c]),
        }
        for c in np.argsort(-share, kind="stable")
        if totals[c]
    ]


def matrix(snapshot: Snapshot) -> dict[str, Any]:
    """Return the confusion matrix, cut to the most confused classes where there are many."""
    counts = snapshot.confusion
    off = counts - np.diag(counts.diagonal())
    involved = off.sum(0) + off.sum(1)
    chosen = np.sort(np.argsort(-involved, kind="stable")[:MATRIX_CLASSES])
    largest = max(1, int(off[np.ix_(chosen, chosen)].max(initial=0)))
    names = [snapshot.classes[c] for c in chosen]
    rows = [
        {
            "name": names[i],
            "cells": [
                {
                    "prediction": names[j],
                    "count": int(counts[a, b]),
                    "hit": bool(a == b),
                    # Eleven shades as classes: the content policy forbids inline styles.
                    "shade": 0 if a == b else round(10 * int(counts[a, b]) / largest),
                }
                for j, b in enumerate(chosen)
            ],
        }
        for i, a in enumerate(chosen)
    ]
    return {"names": names, "rows": rows, "cut": len(counts) > len(chosen)}
