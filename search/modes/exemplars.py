"""Which members stand for a mode: typical ones, and different ones."""

import numpy as np

CORE = 0.8
"""Exemplars come from this share of the members, the most typical ones: outliers are diverse too,
but do not show what the mode is about."""


def typicality(members: np.ndarray) -> np.ndarray:
    """Return the cosine of each member with the mode's mean direction, float32 [m].

    Args:
        members: unit features, float32 [m, d].
    """
    centre = members.sum(0)
    return members @ (centre / max(float(np.linalg.norm(centre)), 1e-12))


def typical_first(members: np.ndarray, label_probability: np.ndarray) -> np.ndarray:
    """Order the members of a mode by typicality times how clearly they fail.

    A member whose own label is nearly as probable as the predicted one fails by a hair, of which
    the mode's cause need not be the reason.

    Args:
        members: unit features, float32 [m, d].
        label_probability: probability that the model gives to each member's label, float [m].

    Returns:
        rows of the members, int64 [m].
    """
    return np.argsort(-typicality(members) * (1 - label_probability), kind="stable")


def cohesion(members: np.ndarray) -> float:
    """Return the mean cosine between two different members; 1 for a single one."""
    m = len(members)
    if m < 2:
        return 1.0
    total = float(np.square(members.sum(0, dtype=np.float64)).sum())
    return (total - float(np.square(members, dtype=np.float64).sum())) / (m * (m - 1))


def diverse(members: np.ndarray, count: int) -> np.ndarray:
    """Choose exemplars by farthest-point traversal (Gonzalez 1985) of the typical members.

    Args:
        members: unit features, float32 [m, d], most typical first.
        count: how many, at most.

    Returns:
        rows of the exemplars, int64, starting with the most typical member.
    """
    core = members[: max(round(CORE * len(members)), min(count, len(members)))]
    count = min(count, len(core))
    chosen = np.zeros(count, np.int64)
    if not count:
        return chosen
    nearest = core @ core[0]
    nearest[0] = np.inf
    for step in range(1, count):
        chosen[step] = np.argmin(nearest)
        nearest = np.maximum(nearest, core @ core[chosen[step]])
        nearest[chosen[: step + 1]] = np.inf
    return chosen
