"""Training of a repair: learn a mode's failures, and keep what is right today.

The loss is the cross-entropy of the failures plus a weight times the divergence from the
original model's outputs (Hinton et al. 2015) on samples that it gets right. The original outputs
are those stored in the index, so retention costs no second model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from .edits import Edit, Targets
from .masked import MaskedTraining
from .population import Population
from .rescore import inputs_on_device


@dataclass(frozen=True)
class Recipe:
    """How a candidate is trained.

    Attributes:
        lr: Adam's first step size; it falls to nothing over the steps, so that the last batches
            do not leave their mark.
        retention: weight of the divergence on samples that are right today.
        steps: number of steps.
        failures: failures a step.
        kept: samples a step whose outputs are kept.
        seed: of the batches.
    """

    lr: float = 2e-3
    retention: float = 45.0
    steps: int = 50
    failures: int = 24
    kept: int = 72
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Lesson:
    """Rows of a population to learn from.

    Attributes:
        failures: int64, to be classified as labelled.
        near: int64, correct samples of the classes that the failures are taken for.
        right: int64, all correct samples that may be used.
    """

    failures: np.ndarray
    near: np.ndarray
    right: np.ndarray


def train_retaining(
    population: Population, targets: Targets, lesson: Lesson, recipe: Recipe
) -> Edit:
    """Return the edit that a recipe leads to; the model is left as it was.

    Half of the kept samples are drawn from the classes that the failures are taken for: a repair
    takes predictions away from them, and does most of its damage there.
    """
    labels = torch.from_numpy(population.labels).to(population.device)
    original = torch.from_numpy(population.logits).to(population.device)
    with MaskedTraining(
        population.model, targets, lambda leaves: torch.optim.Adam(leaves, lr=recipe.lr)
    ) as training:
        for step, (failures, kept) in enumerate(_batches(lesson, recipe)):
            inputs = inputs_on_device(population, np.concatenate([failures, kept]))
            logits = population.model(inputs)
            learn, keep = logits[: len(failures)], logits[len(failures) :]
            loss = F.cross_entropy(learn, labels[failures])
            if len(kept):
                divergence = F.kl_div(
                    keep.log_softmax(1),
                    original[kept].log_softmax(1),
                    reduction="batchmean",
                    log_target=True,
                )
                loss = loss + recipe.retention * divergence
            training.accumulate(loss)
            training.step(scale=1 - step / recipe.steps)
        return training.edit()


def _batches(lesson: Lesson, recipe: Recipe) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(recipe.seed)
    failures = _endless(lesson.failures, recipe.failures, random)
    near = _endless(lesson.near, recipe.kept // 2, random)
    right = _endless(lesson.right, recipe.kept - recipe.kept // 2, random)
    for _ in range(recipe.steps):
        yield next(failures), np.concatenate([next(near), next(right)])


def _endless(rows: np.ndarray, count: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of at most `count` rows; each row comes once before any comes again."""
    left = np.empty(0, np.int64)
    while True:
        while len(left) < min(count, len(rows)):
            left = np.concatenate([left, random.permutation(rows)])
        yield left[:count]
        left = left[count:]
