"""The search for a repair of a failure mode that is worth shipping.

A candidate is a selection of filters and a recipe. It is trained on *discover* and tried on
*guard*. The weaker the retention of what is right today, the more a repair fixes and the more it
breaks, so several are tried. Of the candidates that cost no more accuracy there than allowed and
fix nearly as much as the best of them, the one that costs the samples outside the mode least wins.
Held-out samples play no part.

Accuracy is that of all guard samples, the mode's failures included. A count that leaves them out
charges a repair for every sample that a shifted boundary loses and credits it with none that it
wins, and a confusion of two classes would never seem worth mending. What the others lose is
reported beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from indexer.errors import SettingError
from indexer.progress import Progress, silent

from .edits import Edit, Targets, classifier_targets, targets_of
from .guard import boundary_width, soft_accuracy
from .masked import MaskedTraining
from .population import Population
from .profiles import mean_profile
from .rescore import BATCH, inputs_on_device, rescore
from .selection import SELECTIONS, FilterEvidence, ranking, within_weights
from .splits import DISCOVER, GUARD, HELD_OUT
from .training import Lesson, Recipe, train_retaining

PROFILED = 512
"""Most correct samples whose profiles are averaged to know what the classes need."""
NEARLY = 0.9
"""Share of the most failures fixed from which a cheaper candidate is preferred: where the mode is
unlike the samples that are right, weak retention fixes hardly more and goes on costing."""


@dataclass(frozen=True)
class ModeRepairSettings:
    """The space of a search and its limits.

    Attributes:
        selections: names from `SELECTIONS`, each searched in turn. The default follows from the
            step: Adam moves each weight by about `lr`, which to first order lowers the mode's loss
            by `lr` times the magnitude of its gradient, so that a budget of weights does most in
            the filters of largest mean magnitude.
        max_drop: most accuracy over all guard samples that may be lost, as a share; counted
            softly (see `finetune.guard`).
        max_weights: share of the model's parameters that may change ("last" and "all" take what
            they take).
        lr: step size.
        retentions: retention weights to choose from; the middle one is tried first.
        steps: steps a candidate.
        budget: most candidates to train for each selection.
        seed: of batches and of the random selection.
    """

    selections: tuple[str, ...] = ("gradient",)
    max_drop: float = 0.001
    max_weights: float = 0.02
    lr: float = 2e-3
    retentions: tuple[float, ...] = (7.0, 12.0, 20.0, 35.0, 100.0)
    steps: int = 50
    budget: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.selections:
            if name not in SELECTIONS:
                raise SettingError(f"no selection {name!r}: choose from {', '.join(SELECTIONS)}")
        if not 0 < self.max_weights <= 1:
            raise SettingError(f"share of weights {self.max_weights} is not in (0, 1]")
        if not 0 <= self.max_drop <= 1:
            raise SettingError(
                f"largest drop of {100 * self.max_drop:g} points is not between 0 and 100"
            )
        if min(self.budget, self.steps) < 1:
            raise SettingError(f"budget {self.budget}, {self.steps} steps: at least 1 each")
        if not (self.lr > 0 and self.retentions):
            raise SettingError("a search needs a step size above 0 and a retention weight")


@dataclass(frozen=True, eq=False)
class Task:
    """A mode of a population that is split.

    Attributes:
        population: model and samples.
        mode: int64, rows of the mode's failures.
        parts: str [N], the split of each sample.
    """

    population: Population
    mode: np.ndarray
    parts: np.ndarray

    def __post_init__(self) -> None:
        for part in (DISCOVER, GUARD):
            if not (self.parts[self.mode] == part).any():
                raise SettingError(
                    f"the mode has {len(self.mode)} failures and none of them is in {part}: "
                    "choose a larger mode"
                )

    def failures(self, part: str) -> np.ndarray:
        """Return the mode's failures in a part, rows ascending."""
        return np.sort(self.mode[self.parts[self.mode] == part])

    @cached_property
    def pairs(self) -> set[tuple[int, int]]:
        """The mode's (label, prediction) pairs that make up a tenth of it or more."""
        population = self.population
        pairs = np.stack([population.labels, population.predictions], 1)[self.mode]
        values, counts = np.unique(pairs, axis=0, return_counts=True)
        frequent = values[counts * 10 >= len(self.mode)]
        return {(int(label), int(prediction)) for label, prediction in frequent}

    @cached_property
    def lesson(self) -> Lesson:
        """What a candidate learns from: discover samples alone."""
        population = self.population
        correct = population.predictions == population.labels
        right = np.flatnonzero(correct & (self.parts == DISCOVER))
        taken_from = [prediction for _, prediction in self.pairs]
        near = right[np.isin(population.labels[right], taken_from)]
        return Lesson(self.failures(DISCOVER), near if len(near) else right, right)

    @cached_property
    def guard(self) -> np.ndarray:
        """Guard samples, the mode's failures first."""
        mine = self.failures(GUARD)
        others = np.setdiff1d(np.flatnonzero(self.parts == GUARD), mine)
        return np.concatenate([mine, others])

    @cached_property
    def held_out(self) -> np.ndarray:
        """Rows of the held-out samples."""
        return np.flatnonzero(self.parts == HELD_OUT)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained edit and how it did on guard.

    Attributes:
        selection: how its filters were chosen.
        recipe: how it was trained.
        edit: the change.
        columns: filters it may change; None where it is no matter of filters.
        fixed: failures of the mode that are right.
        mode_failures: of how many.
        drop: accuracy over all guard samples that is lost, counted softly, as a share; below 0
            where it rises.
        counted_drop: the same, counted; too noisy to choose by.
        elsewhere: what the samples outside the mode lose, counted softly.
        logits: of the guard samples under the edit, in the order of `Task.guard`, float32 [n, C].
    """

    selection: str
    recipe: Recipe
    edit: Edit
    columns: tuple[int, ...] | None
    fixed: int
    mode_failures: int
    drop: float
    counted_drop: float
    elsewhere: float
    logits: np.ndarray

    def describe(self) -> dict[str, Any]:
        """Return how it was made and its figures on guard, JSON-ready."""
        return {
            "selection": self.selection,
            "recipe": asdict(self.recipe),
            "guard": {
                "fixed": self.fixed,
                "failures": self.mode_failures,
                "drop": self.drop,
                "counted_drop": self.counted_drop,
                "elsewhere": self.elsewhere,
            },
        }


def search(
    task: Task, settings: ModeRepairSettings, progress: Progress = silent
) -> tuple[Candidate | None, list[Candidate]]:
    """Return the best candidate that keeps within `max_drop` on guard, and all that were tried.

    Returns:
        The winner, None where no candidate fixes anything within the limit; and every candidate.
    """
    evidence = gather_evidence(task, settings.selections)
    tried: list[Candidate] = []
    with progress("Trying repairs", settings.budget * len(settings.selections), 0) as tracker:
        for name in settings.selections:
            for candidate in candidates(task, evidence, name, settings):
                tried.append(candidate)
                tracker.advance(1)
    return choose(tried, settings.max_drop), tried


def candidates(
    task: Task, evidence: FilterEvidence, name: str, settings: ModeRepairSettings
) -> Iterator[Candidate]:
    """Yield the candidates of one selection, at most `budget`.

    Every retention from the middling one down is tried: a weaker one breaks more of what is right
    and fixes more of the mode, and as accuracy counts both, a refusal says little about the next.
    Where guard allows none of them, retention is strengthened until it does.
    """
    weights = sorted(settings.retentions)
    middle = len(weights) // 2
    allowed = False
    for retention in [*weights[middle::-1], *weights[middle + 1 :]][: settings.budget]:
        if allowed and retention > weights[middle]:
            return
        recipe = Recipe(
            lr=settings.lr, retention=retention, steps=settings.steps, seed=settings.seed
        )
        candidate = train_candidate(task, evidence, name, recipe, settings)
        allowed |= candidate.drop <= settings.max_drop
        yield candidate


def choose(tried: Sequence[Candidate], max_drop: float) -> Candidate | None:
    """Return the one that costs others least of those that fix nearly most within `max_drop`."""
    allowed = [one for one in tried if one.fixed > 0 and one.drop <= max_drop]
    most = max((one.fixed for one in allowed), default=0)
    enough = [one for one in allowed if one.fixed >= NEARLY * most]
    return min(enough, key=lambda one: (one.elsewhere, -one.fixed), default=None)


def train_candidate(
    task: Task, evidence: FilterEvidence, name: str, recipe: Recipe, settings: ModeRepairSettings
) -> Candidate:
    """Train one candidate and try it on guard."""
    columns, edit = train_selection(task, evidence, name, recipe, settings)
    population, rows, mine = task.population, task.guard, len(task.failures(GUARD))
    labels, before = population.labels[rows], population.logits[rows]
    after = rescore(population, {name: edit}, rows)[name]
    right, right_before = after.argmax(1) == labels, before.argmax(1) == labels
    width = boundary_width(before)

    def drop(part: slice) -> float:
        return soft_accuracy(before[part], labels[part], width) - soft_accuracy(
            after[part], labels[part], width
        )

    return Candidate(
        selection=name,
        recipe=recipe,
        edit=edit,
        columns=columns,
        fixed=int(right[:mine].sum()),
        mode_failures=mine,
        drop=drop(slice(None)),
        counted_drop=float((right_before.sum() - right.sum()) / len(rows)),
        elsewhere=drop(slice(mine, None)),
        logits=after,
    )


def train_selection(
    task: Task, evidence: FilterEvidence, name: str, recipe: Recipe, settings: ModeRepairSettings
) -> tuple[tuple[int, ...] | None, Edit]:
    """Return the columns of a selection and the edit that a recipe leads to.

    Adam moves every weight by about its step size, so that a change of n weights is about √n
    steps long. A selection that may not choose how many weights it takes ("last", "all") gets
    the step with which its change is as long as that of the others.
    """
    columns, targets = selected_targets(task, evidence, name, settings)
    if name in ("last", "all"):
        weights = dict(task.population.model.named_parameters())
        used = sum(weights[n][:1].numel() * len(rows) for n, rows in targets.items())
        recipe = replace(recipe, lr=recipe.lr * (_allowed(task, settings) / used) ** 0.5)
    return columns, train_retaining(task.population, targets, task.lesson, recipe)


def _allowed(task: Task, settings: ModeRepairSettings) -> int:
    """Return how many scalar weights a selection may take."""
    parameters = sum(parameter.numel() for parameter in task.population.model.parameters())
    return int(settings.max_weights * parameters)


def selected_targets(
    task: Task, evidence: FilterEvidence, name: str, settings: ModeRepairSettings
) -> tuple[tuple[int, ...] | None, Targets]:
    """Return the columns of a selection, within the budget of weights, and their rows."""
    model, layout = task.population.model, task.population.layout
    if name == "last":
        return None, classifier_targets(model)
    columns = ranking(name, evidence, settings.seed)
    if name != "all":
        columns = within_weights(columns, layout, _allowed(task, settings))
    columns = np.sort(columns)
    return tuple(columns.tolist()), targets_of(layout, columns, model)


def gather_evidence(task: Task, selections: Sequence[str]) -> FilterEvidence:
    """Return mean profiles of discover's failures and of the correct samples near them."""
    random = np.random.default_rng(0)
    near = task.lesson.near
    near = np.sort(random.permutation(near)[:PROFILED])
    return FilterEvidence(
        failures=mean_profile(task.population, task.lesson.failures),
        needed=mean_profile(task.population, near),
        gradient=mode_gradient(task) if "gradient" in selections else None,
    )


def mode_gradient(task: Task) -> np.ndarray:
    """Return mean |gradient| per filter of the mean loss of discover's failures, float64 [F]."""
    population, rows = task.population, task.lesson.failures
    layout = population.layout
    targets = targets_of(layout, np.arange(len(layout)), population.model)
    labels = torch.from_numpy(population.labels).to(population.device)
    gradients: dict[str, Tensor] = {}
    with MaskedTraining(
        population.model, targets, lambda leaves: torch.optim.SGD(leaves, lr=0.0)
    ) as training:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            logits = population.model(inputs_on_device(population, part))
            loss = F.cross_entropy(logits, labels[part], reduction="sum")
            training.accumulate(loss / len(rows))
        gradients = training.gradients()
    scores = np.empty(len(layout))
    for layer in layout.layers:
        magnitudes = gradients[layer.parameter].abs().flatten(1).mean(1).double().cpu().numpy()
        scores[layer.start : layer.stop] = (
            magnitudes if layer.filters == len(magnitudes) else magnitudes.mean()
        )
    return scores
