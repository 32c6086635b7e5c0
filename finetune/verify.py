"""Judging a recorded patch again: same index, stored split, same figures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import IncompatibleIndexError, ModelError
from indexer.progress import Progress, silent
from indexer.store import Store
from indexer.weights import state_digest

from .mode_repair import judge, read_split
from .patch import Patch, read_patch, read_weights, sources_of
from .population import Population, open_population
from .report import outcome
from .rescore import rescore
from .workbench import Task


@dataclass(frozen=True)
class Verification:
    """What a patch promises and what was measured.

    Attributes:
        repair: id of the repair that made the patch.
        judged_on: "held-out" for a mode's repair, "index" for one in the paper's form.
        promised: the figures in the patch.
        measured: the same figures, measured now.
        weights: "patched" or "base" where weights were given; None otherwise.
    """

    repair: str
    judged_on: str
    promised: dict[str, Any]
    measured: dict[str, Any]
    weights: str | None

    @property
    def differing(self) -> tuple[str, ...]:
        """Names of the figures that came out otherwise.

        What is measured today and a patch of an earlier version does not promise is none of them.
        """
        return tuple(k for k, value in self.promised.items() if self.measured.get(k) != value)

    @property
    def matches(self) -> bool:
        """Whether every figure came out as promised."""
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**vars(self), "matches": self.matches}


def verify_patch(
    store: Store,
    path: str | Path,
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    progress: Progress = silent,
) -> Verification:
    """Measure the figures of a patch again on the index that it was made from.

    Args:
        store: the index; its model is patched in memory alone.
        path: the patch.
        weights: a timm directory or checkpoint, to be told whether it carries the patch.
        device: where the model runs.
        progress: how the work is shown.

    Raises:
        IncompatibleIndexError: the patch was made for the model, or on the data, of another index.
        ModelError: the weights are neither those before the patch nor those after it.
    """
    patch = read_patch(path)
    if patch.base_digest != store.manifest.model["weights_digest"]:
        raise IncompatibleIndexError(
            f"{path} was made for other weights (digest {patch.base_digest[:12]}…) than those of "
            f"{store.path}: verify it on the index it was made from"
        )
    state = None if weights is None else _state_of(patch, weights)
    details = dict(patch.details)
    indexed = details.get("sources", [])  # patches of early versions do not tell
    if sources_of(store)[: len(indexed)] != indexed:
        raise IncompatibleIndexError(
            f"{path} was made from other data than that of {store.path}: verify it on the index it "
            "was made from"
        )
    population, _ = open_population(store, device)
    if "held_out" in details:
        judged_on, promised = "held-out", details["held_out"]
        measured = _judge_held_out(store, population, patch, progress)
    else:
        keys = ("neighbours_corrected", "fixed", "broken", "accuracy_after")
        judged_on, promised = "index", {key: details[key] for key in keys}
        found = _judge_index(population, patch, progress)
        measured = {key: found[key] for key in keys}
    return Verification(details["id"], judged_on, promised, _plain(measured), state)


def _judge_held_out(
    store: Store, population: Population, patch: Patch, progress: Progress
) -> dict[str, Any]:
    mode = population.rows(patch.details["samples"])
    task = Task(population, mode, read_split(store, population, patch.details["id"]))
    logits = rescore(population, {"patch": patch.edit}, task.held_out, progress)
    return judge(task, logits["patch"]).to_json()


def _judge_index(population: Population, patch: Patch, progress: Progress) -> dict[str, Any]:
    group = population.rows(patch.details["samples"])
    logits = rescore(population, {"patch": patch.edit}, progress=progress)["patch"]
    return outcome(
        population.labels,
        population.predictions,
        logits.argmax(1),
        group,
        patch.edit.weights,
    ).to_json()


def _state_of(patch: Patch, weights: str | Path) -> str:
    digest = state_digest(read_weights(weights))
    if digest == patch.patched_digest:
        return "patched"
    if digest == patch.base_digest:
        return "base"
    raise ModelError(f"{weights} has neither the weights before the patch nor those after it")


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(document))
