"""Training of a repair: learn a mode's failures, and keep what is right today.

The loss is the cross-entropy of the failures plus a weight times the divergence from the
original model's outputs (Hinton et al. 2015) on samples that it gets right. The original outputs
are those stored in the index, so retention costs no second model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from indexer.saliency.faults import SoundKernels

from .edits import Edit, Targets
from .masked import MaskedTraining
from .population import Population
from .rescore import inputs_on_device

PIXELS = 1 << 20
"""Most image area of one forward and backward pass: 20 images of 224 pixels, with which ResNet-50
keeps some 2 GB."""


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
    retention: float = 20.0
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
    size = images_a_pass(population, lesson.failures)
    with MaskedTraining(
        population.model, targets, lambda leaves: torch.optim.Adam(leaves, lr=recipe.lr)
    ) as training:
        for step, (failures, kept) in enumerate(_batches(lesson, recipe)):
            rows = np.concatenate([failures, kept])
            weights = np.full(len(rows), recipe.retention / max(len(kept), 1), np.float32)
            weights[: len(failures)] = 1 / len(failures)
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                learnt = np.arange(len(rows))[part] < len(failures)
                losses = _losses(population, rows[part], learnt)
                training.accumulate(losses @ torch.from_numpy(weights[part]).to(losses.device))
            training.step(scale=1 - step / recipe.steps)
        return training.edit()


def images_a_pass(population: Population, rows: np.ndarray) -> int:
    """Return how many images may go through the model at once, by their size.

    What a backward pass keeps grows with it, and in evaluation mode samples do not mix: a step in
    parts is the same step.
    """
    height, width = population.inputs.batch(rows[:1]).shape[-2:]
    return max(1, PIXELS // (height * width))


def _losses(population: Population, rows: np.ndarray, learnt: np.ndarray) -> Tensor:
    """Return the loss of each sample: its cross-entropy, or its divergence from the original.

    Args:
        population: model and samples.
        rows: int64 [n].
        learnt: bool [n], whether a sample is learnt; the outputs of the others are kept.
    """
    device = population.device
    with SoundKernels():
        logits = population.model(inputs_on_device(population, rows))
    labels = torch.from_numpy(population.labels[rows]).to(device)
    original = torch.from_numpy(population.logits[rows]).to(device).log_softmax(1)
    divergence = F.kl_div(logits.log_softmax(1), original, reduction="none", log_target=True)
    entropy = F.cross_entropy(logits, labels, reduction="none")
    return torch.where(torch.from_numpy(learnt).to(device), entropy, divergence.sum(1))


def _batches(lesson: Lesson, recipe: Recipe) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(recipe.seed)
    failures = endless(lesson.failures, recipe.failures, random)
    near = endless(lesson.near, recipe.kept // 2, random)
    right = endless(lesson.right, recipe.kept - recipe.kept // 2, random)
    for _ in range(recipe.steps):
        yield next(failures), np.concatenate([next(near), next(right)])


def endless(rows: np.ndarray, count: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of at most `count` rows; each row comes once before any comes again."""
    left = np.empty(0, np.int64)
    while True:
        while len(left) < min(count, len(rows)):
            left = np.concatenate([left, random.permutation(rows)])
        yield left[:count]
        left = left[count:]
