"""The search for a repair of a failure mode that is worth shipping.

A candidate is a selection of filters and a recipe. It is trained on *discover* and tried on
*guard*; of those that cost no more accuracy there than allowed, the one that fixes most of the
mode wins. Held-out samples play no part here.

What a candidate costs is measured by the probability of the right class, not by counting: of
some thousand guard samples a few dozen change sides, mostly by chance, and the best of several
candidates by such a count would be the luckiest. The mean probability moves with the accuracy
and its standard error is a fifth of the count's (see benchmarks/repair.md).
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
from indexer.scoring import score

from .edits import Edit, Targets, classifier_targets, targets_of
from .masked import MaskedTraining
from .population import Population
from .profiles import mean_profile
from .rescore import BATCH, inputs_on_device, rescore
from .selection import SELECTIONS, Evidence, ranking, within_weights
from .splits import DISCOVER, GUARD, HELD_OUT
from .training import Lesson, Recipe, train_retaining

PROFILED = 512
"""Most correct samples whose profiles are averaged to know what the classes need."""


@dataclass(frozen=True)
class SearchSettings:
    """The space of a search and its limits.

    Attributes:
        selections: names from `SELECTIONS`, each tried with every recipe.
        max_drop: most accuracy that guard samples outside the mode may be expected to lose, as a
            share: the fall of the mean probability of the right class.
        max_weights: share of the model's parameters that may change ("last" and "all" take what
            they take).
        lrs: step sizes to try.
        retentions: retention weights to try.
        steps: steps a candidate.
        budget: most candidates to train, over all selections.
        seed: of batches and of the random selection.
    """

    selections: tuple[str, ...] = ("contrastive", "salient")
    max_drop: float = 0.001
    max_weights: float = 0.02
    lrs: tuple[float, ...] = (6e-3, 1.5e-3)
    retentions: tuple[float, ...] = (40.0, 160.0)
    steps: int = 30
    budget: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.selections:
            if name not in SELECTIONS:
                raise SettingError(f"no selection {name!r}: choose from {', '.join(SELECTIONS)}")
        if not 0 < self.max_weights <= 1:
            raise SettingError(f"share of weights {self.max_weights} is not in (0, 1]")
        if not 0 <= self.max_drop <= 1:
            raise SettingError(f"largest drop {self.max_drop} is not a share in [0, 1]")
        if min(self.budget, self.steps) < 1 or not (self.lrs and self.retentions):
            raise SettingError("a search needs a budget, steps, a step size and a retention weight")

    def recipes(self) -> Iterator[Recipe]:
        """Yield the recipes of the space, in the order in which they are tried."""
        for retention in self.retentions:
            for lr in self.lrs:
                yield Recipe(lr=lr, retention=retention, steps=self.steps, seed=self.seed)


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
        classes = [one for pair in self.pairs for one in pair]
        near = right[np.isin(population.labels[right], classes)]
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


@dataclass(frozen=True)
class Candidate:
    """A trained edit and how it did on guard.

    Attributes:
        selection: how its filters were chosen.
        recipe: how it was trained.
        edit: the change.
        columns: filters it may change; None where it is no matter of filters.
        fixed: failures of the mode that are right.
        mode_failures: of how many.
        drop: accuracy that other samples are expected to lose, as a share; below 0 where they
            gain.
        counted_drop: the share of them that was lost, on balance; too noisy to choose by.
    """

    selection: str
    recipe: Recipe
    edit: Edit
    columns: tuple[int, ...] | None
    fixed: int
    mode_failures: int
    drop: float
    counted_drop: float

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
            },
        }


def search(
    task: Task, settings: SearchSettings, progress: Progress = silent
) -> tuple[Candidate | None, list[Candidate]]:
    """Return the best candidate that keeps within `max_drop` on guard, and all that were tried.

    Returns:
        The winner, None where no candidate fixes anything within the limit; and every candidate.
    """
    evidence = gather_evidence(task, settings.selections)
    planned = [(name, recipe) for recipe in settings.recipes() for name in settings.selections][
        : settings.budget
    ]
    tried: list[Candidate] = []
    with progress("Trying repairs", len(planned), 0) as tracker:
        for name, recipe in planned:
            tried.append(train_candidate(task, evidence, name, recipe, settings))
            tracker.advance(1)
    return choose(tried, settings.max_drop), tried


def choose(tried: Sequence[Candidate], max_drop: float) -> Candidate | None:
    """Return the candidate that fixes most within `max_drop`; of equals the one that costs less."""
    allowed = [one for one in tried if one.fixed > 0 and one.drop <= max_drop]
    return min(allowed, key=lambda one: (-one.fixed, one.drop), default=None)


def train_candidate(
    task: Task, evidence: Evidence, name: str, recipe: Recipe, settings: SearchSettings
) -> Candidate:
    """Train one candidate and try it on guard."""
    columns, edit = train_selection(task, evidence, name, recipe, settings)
    population, rows, mine = task.population, task.guard, len(task.failures(GUARD))
    labels = population.labels[rows]
    before = score(population.logits[rows], labels)
    after = score(rescore(population, {name: edit}, rows)[name], labels)
    return Candidate(
        selection=name,
        recipe=recipe,
        edit=edit,
        columns=columns,
        fixed=int(after.correct[:mine].sum()),
        mode_failures=mine,
        drop=_fall(before.label_probability[mine:], after.label_probability[mine:]),
        counted_drop=_fall(before.correct[mine:], after.correct[mine:]),
    )


def train_selection(
    task: Task, evidence: Evidence, name: str, recipe: Recipe, settings: SearchSettings
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


def _allowed(task: Task, settings: SearchSettings) -> int:
    """Return how many scalar weights a selection may take."""
    parameters = sum(parameter.numel() for parameter in task.population.model.parameters())
    return int(settings.max_weights * parameters)


def _fall(before: np.ndarray, after: np.ndarray) -> float:
    """Return by how much a mean falls; 0 for nothing."""
    return float(before.mean() - after.mean()) if len(before) else 0.0


def selected_targets(
    task: Task, evidence: Evidence, name: str, settings: SearchSettings
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


def gather_evidence(task: Task, selections: Sequence[str]) -> Evidence:
    """Return mean profiles of discover's failures and of the correct samples near them."""
    random = np.random.default_rng(0)
    near = task.lesson.near
    near = np.sort(random.permutation(near)[:PROFILED])
    return Evidence(
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
