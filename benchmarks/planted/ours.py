"""Failure modes as a method of the benchmark, and the variants they were chosen from."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.decomposition import PCA

from search.modes.communities import communities
from search.modes.exemplars import typical_first, typicality
from search.modes.representation import fit_space, unit_rows
from search.modes.settings import ModeSettings

from .peers import Method, Slices, last_layer_gradients
from .problems import Problem

DEFAULTS = ModeSettings()
Rank = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(features, label probability) of the members of a mode -> their order."""


def failure_modes(
    problem: Problem,
    budget: int,
    settings: ModeSettings = DEFAULTS,
    *,
    signed: bool = False,
    rank: Rank = typical_first,
) -> Slices:
    """Return the modes of the failures, largest first, each in the order of its members."""
    views = problem.profiles(signed=signed), problem.embeddings[problem.failures]
    features = fit_space(*views, problem.layout, settings)(*views)
    return _slices(problem, features, settings, budget, rank)


def last_layer_modes(problem: Problem, budget: int) -> Slices:
    """Group last-layer gradients in the same way: what do the other layers add?"""
    vectors = unit_rows(last_layer_gradients(problem, problem.failures))
    reduced = PCA(min(DEFAULTS.dimensions, *vectors.shape), random_state=0).fit_transform(vectors)
    features = unit_rows(reduced).astype(np.float32)
    return _slices(problem, features, DEFAULTS, budget, typical_first)


def _slices(
    problem: Problem, features: np.ndarray, settings: ModeSettings, budget: int, rank: Rank
) -> Slices:
    assigned = communities(features, settings)
    probability = problem.scores.label_probability[problem.failures]
    slices = []
    for group in range(min(assigned.max(initial=-1) + 1, budget)):
        members = np.flatnonzero(assigned == group)
        order = rank(features[members], probability[members])
        slices.append(problem.failures[members[order]])
    return slices


def _most_typical(features: np.ndarray, label_probability: np.ndarray) -> np.ndarray:
    return np.argsort(-typicality(features), kind="stable")


def _variant(**changes: object) -> Method:
    return partial(failure_modes, settings=replace(DEFAULTS, **changes))


OURS = "failure modes"
METHODS: dict[str, Method] = {OURS: failure_modes}
VARIANTS: dict[str, Method] = {
    "profiles alone": _variant(embedding_weight=0.0),
    "embeddings alone": _variant(embedding_weight=1.0),
    "last layer alone": last_layer_modes,
    "embeddings weighted 0.4": _variant(embedding_weight=0.4),
    "embeddings weighted 0.8": _variant(embedding_weight=0.8),
    "typical members first": partial(failure_modes, rank=_most_typical),
    "signed z": partial(failure_modes, signed=True),
    "peaks over threshold": _variant(transform="peaks"),
    "layers not balanced": _variant(balance_layers=False),
    "64 dimensions": _variant(dimensions=64),
    "resolution 3": _variant(resolution=3.0),
    "resolution 8": _variant(resolution=8.0),
}
