"""Spotlight: regions of high loss in embedding space (d'Eon et al. 2021)."""

import numpy as np
from scipy.linalg import eigh

from .families import Slices
from .ordering import by, unit
from .problems import Problem

STEPS, CAP = 8, 10.0
Lights = tuple[float, list[np.ndarray]]
"""The share of the samples that a spotlight covers, and each spotlight's weights, float64 [n]."""


def spotlight_fit(
    problem: Problem, budget: int, mass: float, centred: bool, dimensions: int
) -> Lights:
    """Find one spotlight after another.

    Each is a centre and a radius that maximise the mean loss, at most `CAP`, under a Gaussian
    weight which must cover at least `mass` of the samples; lit samples lose their loss for the
    next. Distances are cosine distances of the embeddings, less their mean if `centred`, reduced to
    their leading directions.
    """
    z = problem.embeddings - (problem.embeddings.mean(0) if centred else 0)
    if dimensions < z.shape[1]:
        z = z @ eigh(z.T @ z, subset_by_index=(z.shape[1] - dimensions, z.shape[1] - 1))[1]
    z = unit(z)
    left = np.minimum(problem.scores.loss.astype(np.float64), CAP)
    found = []
    for _ in range(budget):
        centre = z[int(left.argmax())]
        weight = np.zeros(len(z))
        for _ in range(STEPS):
            weight = _gaussian(1 - z @ centre, mass)
            centre = (weight * left) @ z
            centre = centre / max(float(np.linalg.norm(centre)), 1e-12)
        found.append(weight)
        left = left * (1 - weight)
    return mass, found


def spotlight_cut(problem: Problem, lights: Lights, budget: int, clear: bool) -> Slices:
    """Return the failures that each spotlight covers, brightest first, or brightest and clearest.

    Args:
        problem: the samples.
        lights: of `spotlight_fit`.
        budget: slices at most; as many were fitted.
        clear: whether the weight is multiplied by how clearly a member fails.
    """
    mass, found = lights
    factor = 1 - problem.scores.label_probability if clear else 1
    size = max(10, round(mass * len(problem.labels)))
    return [by(problem.failures, weight * factor)[:size] for weight in found]


def _gaussian(distance: np.ndarray, mass: float) -> np.ndarray:
    """Return weights exp(-d²/2r²) whose radius covers `mass` of the samples in sum."""
    low, high = 1e-4, 2.0
    for _ in range(30):
        radius = (low * high) ** 0.5
        weight = np.exp(-((distance / radius) ** 2) / 2)
        low, high = (low, radius) if weight.mean() > mass else (radius, high)
    return np.exp(-((distance / high) ** 2) / 2)
