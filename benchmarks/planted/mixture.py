"""Domino's error-aware mixture (Eyuboglu et al. 2022, section 5.2)."""

import numpy as np
from sklearn.decomposition import PCA

from .families import Slices
from .ordering import by
from .problems import Problem

STEPS = 60


def domino_fit(
    problem: Problem, budget: int, gamma: float, dimensions: int, components: int
) -> np.ndarray:
    """Fit the mixture by expectation maximization; returns responsibilities [n, components].

    Components share a diagonal Gaussian of the embedding with categorical distributions of label
    and prediction, each weighted by gamma; as in the paper's code the embedding is reduced by PCA
    and components start from confusion pairs. There gamma is 10.
    """
    classes = problem.logits.shape[1]
    dimensions = min(dimensions, problem.embeddings.shape[1])
    z = PCA(dimensions, random_state=0).fit_transform(problem.embeddings)
    labels = np.eye(classes)[problem.labels]
    predictions = np.exp(problem.logits - problem.logits.max(1, keepdims=True))
    predictions /= predictions.sum(1, keepdims=True)
    squares, floor = z**2, 1e-2 * z.var()
    weight = _start_from_pairs(problem, components)
    for _ in range(STEPS):
        mass = weight.sum(0) + 1e-6
        mean = weight.T @ z / mass[:, None]
        variance = weight.T @ squares / mass[:, None] - mean**2 + floor
        log_label = np.log(weight.T @ labels / mass[:, None] + 1e-6)
        log_prediction = np.log(weight.T @ predictions / mass[:, None] + 1e-6)
        log_density = -0.5 * (
            squares @ (1 / variance).T
            - 2 * z @ (mean / variance).T
            + (mean**2 / variance + np.log(variance)).sum(1)
        )
        log_weight = log_density + gamma * (labels @ log_label.T + predictions @ log_prediction.T)
        log_weight += np.log(mass / mass.sum())
        weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
    return weight


def domino_cut(problem: Problem, weight: np.ndarray, budget: int, clear: bool) -> Slices:
    """Return the components with most failures, members in the order of their weight in them.

    Args:
        problem: the samples.
        weight: responsibilities, float64 [n, components].
        budget: slices at most.
        clear: whether the weight is multiplied by how clearly a member fails.
    """
    rows = problem.failures
    best = weight[rows].argmax(1)
    if clear:
        weight = weight * (1 - problem.scores.label_probability[:, None])
    sizes = np.bincount(best)
    largest = [k for k in np.argsort(-sizes, kind="stable")[:budget] if sizes[k]]
    return [by(rows[best == k], weight[:, k]) for k in largest]


def _start_from_pairs(problem: Problem, components: int) -> np.ndarray:
    """Return starting responsibilities [n, components]: confusion pairs, softened by chance."""
    classes = problem.logits.shape[1]
    pairs = problem.labels * classes + problem.scores.prediction
    values, counts = np.unique(pairs, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:components]
    weight = 0.2 * np.random.default_rng(0).random((len(pairs), components))
    for component, pair in enumerate(frequent):
        weight[pairs == pair, component] += 1
    return weight / weight.sum(1, keepdims=True)
