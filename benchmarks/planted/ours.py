"""Failure modes as a method of the benchmark, and what is left out of them one at a time."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from search.modes.communities import communities
from search.modes.representation import fit_space, unit_or_zero
from search.modes.settings import ModeSettings

from .families import Family, Method, Slices
from .ordering import ORDERS
from .peers import last_layer_gradients
from .problems import Problem

DEFAULTS = ModeSettings()
FIRST = "typical and clear"


def compared(problem: Problem, budget: int, *, signed: bool = False, **changes: Any) -> np.ndarray:
    """Return the failures in the space of the modes, float32 [m, d], under changed settings."""
    settings = replace(DEFAULTS, **changes)
    views = problem.profiles(signed=signed), problem.embeddings[problem.failures]
    return fit_space(*views, problem.layout, settings)(*views)


def grouped(
    problem: Problem,
    features: np.ndarray,
    budget: int,
    resolution: float = DEFAULTS.resolution,
    order: str = FIRST,
) -> Slices:
    """Return the modes of the failures, largest first, each in the order of its members."""
    assigned = communities(features, replace(DEFAULTS, resolution=resolution))
    probability = problem.scores.label_probability[problem.failures]
    slices = []
    for group in range(min(assigned.max(initial=-1) + 1, budget)):
        members = np.flatnonzero(assigned == group)
        ranked = ORDERS[order](features[members], probability[members])
        slices.append(problem.failures[members[ranked]])
    return slices


def changed_modes(
    problem: Problem,
    budget: int,
    resolution: float = DEFAULTS.resolution,
    order: str = FIRST,
    **changes: Any,
) -> Slices:
    """Return the modes under other settings than the chosen ones."""
    return grouped(problem, compared(problem, budget, **changes), budget, resolution, order)


def last_layer_modes(problem: Problem, budget: int) -> Slices:
    """Group last-layer gradients in the same way: what do the other layers add?"""
    vectors = unit_or_zero(last_layer_gradients(problem, problem.failures))
    reduced = PCA(min(DEFAULTS.dimensions, *vectors.shape), random_state=0).fit_transform(vectors)
    return grouped(problem, unit_or_zero(reduced).astype(np.float32), budget)


OURS = "failure modes"
METHODS: dict[str, Family] = {
    OURS: Family(
        compared,
        grouped,
        fitted={"embedding_weight": (0.4, 0.6, 0.8), "dimensions": (64, 128)},
        cuts={"resolution": (3.0, 5.0, 8.0), "order": tuple(ORDERS)},
        chosen={
            "embedding_weight": DEFAULTS.embedding_weight,
            "dimensions": DEFAULTS.dimensions,
            "resolution": DEFAULTS.resolution,
            "order": FIRST,
        },
    )
}
VARIANTS: dict[str, Method] = {
    "profiles alone": partial(changed_modes, embedding_weight=0.0),
    "embeddings alone": partial(changed_modes, embedding_weight=1.0),
    "last layer alone": last_layer_modes,
    "embeddings weighted 0.4": partial(changed_modes, embedding_weight=0.4),
    "embeddings weighted 0.8": partial(changed_modes, embedding_weight=0.8),
    "typical members first": partial(changed_modes, order="typical"),
    "signed z": partial(changed_modes, signed=True),
    "peaks over threshold": partial(changed_modes, transform="peaks"),
    "layers not balanced": partial(changed_modes, balance_layers=False),
    "64 dimensions": partial(changed_modes, dimensions=64),
    "resolution 3": partial(changed_modes, resolution=3.0),
    "resolution 8": partial(changed_modes, resolution=8.0),
}
