"""What comes first within a slice."""

import numpy as np

from search.modes.exemplars import typical_first, typicality


def most_typical_first(members: np.ndarray, label_probability: np.ndarray) -> np.ndarray:
    """Order the members of a slice by typicality alone; as `typical_first` otherwise."""
    return np.argsort(-typicality(members), kind="stable")


ORDERS = {"typical and clear": typical_first, "typical": most_typical_first}
"""(unit features of the members, their label probability) -> rows, best first."""


def by(rows: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return rows with the highest score first; the score is one of every sample."""
    return rows[np.argsort(-score[rows], kind="stable")]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; zero rows stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
