"""The paper's repair: update the few filters that are salient for a failure, and see who gains.

Section 3.3 and appendix D of Levin et al.: the 0.4 % most salient filters of one misclassified
sample (or of a failure mode) take one step along its loss; its nearest neighbours in profile
space and the whole index are scored again, beside as many random and least salient filters and
all filters, each with the same step.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from indexer.errors import SettingError
from indexer.filters import FilterLayout
from indexer.models import LoadedModel, save_timm_directory
from indexer.patched import PATCH_FILE
from indexer.progress import Progress, silent
from indexer.store import Store
from search.modes import read_modes
from search.neighbours import SearchSettings, search
from search.snapshot import snapshot

from .edits import Edit, targets_of
from .masked import MaskedTraining
from .patch import make_patch, sources_of, write_patch
from .population import Population, open_population
from .profiles import mean_profile
from .records import next_repair, record_repair
from .report import Outcome, RepairedFilter, RepairReport, affected_samples, outcome
from .rescore import BATCH, inputs_on_device, rescore
from .selection import FilterEvidence, filter_count, select
from .settings import RepairSettings

CONTROLS = ("random", "least", "all")


def repair(
    store: Store,
    *,
    mode: str | None = None,
    sample: str | None = None,
    settings: RepairSettings | None = None,
    output: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> RepairReport:
    """Repair one failure or failure mode as the paper does, and record what came of it.

    The model and the samples of the index stay as they are; the repaired model is written beside
    them.

    Args:
        store: the index.
        mode: id of a failure mode; its members are trained on and counted.
        sample: id of a misclassified sample; it is trained on, and it and its nearest failures
            are counted.
        settings: the paper's by default.
        output: folder for the repaired model; `<db>/repairs/<id>/model` where None.
        device: where the model runs.
        progress: how the work is shown; forward passes of images are counted.

    Raises:
        SettingError: not exactly one of mode and sample, the sample is no failure, or `output` is
            not empty.
        UnknownSampleError: no such mode or sample.
    """
    require_free(output)
    settings = settings or RepairSettings()
    if (mode is None) == (sample is None):
        raise SettingError("give either a mode or a sample to repair")
    if sample is not None:
        snapshot(store).positions([sample])  # rather fail now than once the model is loaded
    population, loaded = open_population(store, device)
    if sample is not None:
        learned = _failure_row(population, sample)
        group = population.rows(_nearest(store, sample, settings.neighbours))
        kind, target, name = "sample", sample, sample
    else:
        repaired = read_modes(store).mode(str(mode))
        learned = group = population.rows(repaired.samples)
        kind, target, name = "mode", repaired.id, repaired.name
    evidence = mean_evidence(population, learned)
    edits = {
        name: take_steps(population, columns, learned, lr=settings.lr, steps=settings.steps)
        for name, columns in _arms(evidence, settings).items()
    }
    logits = rescore(population, edits, progress=progress)
    outcomes = {
        name: outcome(
            population.labels, population.predictions, logits[name].argmax(1), group, edit.weights
        )
        for name, edit in edits.items()
    }
    found = _Found(
        kind=kind,
        target=target,
        target_name=name,
        evidence=evidence,
        group=group,
        edit=edits["salient"],
        logits=logits["salient"],
        outcomes=outcomes,
    )
    return _keep(store, population, loaded, found, settings, output)


def take_steps(
    population: Population,
    columns: np.ndarray,
    rows: np.ndarray,
    *,
    lr: float,
    steps: int = 1,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
) -> Edit:
    """Return the edit of `steps` optimizer steps on the mean cross-entropy of some samples.

    Args:
        population: model and samples; the model is left as it was.
        columns: filters that may change.
        rows: int64 [n], samples to learn.
        lr: step size.
        steps: number of steps, each on all of `rows`.
        optimizer: makes one of leaves and `lr`.
    """
    targets = targets_of(population.layout, columns, population.model)
    labels = torch.from_numpy(population.labels).to(population.device)
    with MaskedTraining(
        population.model, targets, lambda leaves: optimizer(leaves, lr=lr)
    ) as training:
        for _ in range(steps):
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                logits = population.model(inputs_on_device(population, part))
                loss = F.cross_entropy(logits, labels[part], reduction="sum")
                training.accumulate(loss / len(rows))
            training.step()
        return training.edit()


def mean_evidence(population: Population, failures: np.ndarray) -> FilterEvidence:
    """Return the mean profile of some failures, with nothing known of correct samples."""
    mean = mean_profile(population, failures)
    return FilterEvidence(failures=mean, needed=np.zeros_like(mean))


def repaired_filters(layout: FilterLayout, scores: np.ndarray, columns: np.ndarray) -> tuple:
    """Return columns as filters with their scores, highest score first."""
    order = columns[np.argsort(-scores[columns], kind="stable")]
    located = ((*layout.locate(int(column)), column) for column in order)
    return tuple(
        RepairedFilter(layer.name, index, float(scores[column])) for layer, index, column in located
    )


def require_free(output: str | Path | None) -> None:
    """Raise SettingError where a repaired model would be written over something else."""
    if output is None or not (os.path.exists(output) or os.path.islink(output)):
        return
    if not os.path.isdir(output) or os.listdir(output):
        raise SettingError(
            f"{output} is not empty: name a new folder for the repaired model, nothing is replaced"
        )


def write_model(loaded: LoadedModel, edit: Edit, folder: str | Path) -> str:
    """Write the edited model and return where: its timm folder, or a factory's checkpoint."""
    with edit.applied(loaded.model):
        saved = save_timm_directory(loaded.model, loaded, folder)
    return saved.checkpoint or saved.spec.removeprefix("local-dir:")


def _nearest(store: Store, sample: str, count: int) -> list[str]:
    """Return a failure and the failures nearest to it, `count` in all where there are as many."""
    if count == 1:
        return [sample]
    found = search(store, sample, SearchSettings(k=count - 1, among="failures"))
    return [sample, *(neighbour.sample.id for neighbour in found.neighbours)]


def _failure_row(population: Population, sample: str) -> np.ndarray:
    rows = population.rows([sample])
    if rows[0] not in population.failures:
        raise SettingError(f"sample {sample!r} is classified correctly: there is nothing to repair")
    return rows


def _arms(evidence: FilterEvidence, settings: RepairSettings) -> dict[str, np.ndarray]:
    count = filter_count(settings.fraction, len(evidence.failures))
    return {name: select(name, evidence, count, settings.seed) for name in ("salient", *CONTROLS)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Found:
    """What a repair has worked out before it is written down."""

    kind: str
    target: str
    target_name: str
    evidence: FilterEvidence
    group: np.ndarray
    edit: Edit
    logits: np.ndarray
    outcomes: Mapping[str, Outcome]


def _keep(
    store: Store,
    population: Population,
    loaded: LoadedModel,
    found: _Found,
    settings: RepairSettings,
    output: str | Path | None,
) -> RepairReport:
    """Write model, patch and record of a repair."""
    count = filter_count(settings.fraction, len(population.layout))
    columns = select("salient", found.evidence, count)
    with store.writer():
        repair_id, folder = next_repair(store)
        model = write_model(loaded, found.edit, output or folder / "model")
        report = RepairReport(
            id=repair_id,
            kind=found.kind,
            target=found.target,
            target_name=found.target_name,
            filters=repaired_filters(population.layout, found.evidence.failures, columns),
            neighbours=len(found.group),
            outcome=found.outcomes["salient"],
            controls={name: found.outcomes[name] for name in CONTROLS},
            settings=settings,
            samples=affected_samples(
                population.ids, population.labels, population.logits, found.logits, found.group
            ),
            patch=str(folder / PATCH_FILE),
            model=model,
        )
        document = report.to_json()
        samples = [population.ids[row] for row in found.group]
        details = document | {"samples": samples, "sources": sources_of(store)}
        write_patch(make_patch(found.edit, loaded.model.state_dict(), details), report.patch)
        record_repair(store, document, report.to_arrow())
    return report
