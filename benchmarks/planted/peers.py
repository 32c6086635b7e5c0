"""Slice discovery methods that the modes are compared with; all see the same failures.

Each takes a `Problem` and a budget and returns at most that many slices: arrays of rows of
misclassified samples, best first, so that precision@10 reads the first ten of each.
`benchmarks.modes_tuning` measures the settings listed here on the models in `TUNING`; the best of
them is chosen, but of `loss`, which stays what its name says.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.linalg import eigh
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA

from .families import Family, Slices
from .mixture import domino_cut, domino_fit
from .ordering import ORDERS, by, unit
from .problems import Problem
from .spotlight import spotlight_cut, spotlight_fit

RANK = 256
"""Influence embeddings that are computed."""
CLEAR = (False, True)
"""Whether what orders the members is multiplied by how clearly they fail."""


def pairs_of(problem: Problem, budget: int) -> Slices:
    """Return the failures of the most frequent (label, prediction) pairs."""
    rows = problem.failures
    pairs = problem.labels[rows] * problem.logits.shape[1] + problem.scores.prediction[rows]
    values, counts = np.unique(pairs, return_counts=True)
    return [rows[pairs == pair] for pair in values[np.argsort(-counts, kind="stable")][:budget]]


def in_order(problem: Problem, groups: Slices, budget: int, order: str) -> Slices:
    """Return groups of failures, each in an order of `ORDERS` or by a score."""
    if order in ORDERS:
        return [_ranked(problem, problem.embeddings[g], g, order) for g in groups]
    return [by(rows, getattr(problem.scores, order)) for rows in groups]


def failures_by(problem: Problem, budget: int, order: str) -> np.ndarray:
    """Return all failures, those of the highest score first."""
    return by(problem.failures, getattr(problem.scores, order))


def runs_of(problem: Problem, ranked: np.ndarray, budget: int, step: int) -> Slices:
    """Return consecutive runs of ranked failures."""
    return [ranked[start : start + 10] for start in range(0, len(ranked), step)][:budget]


def embeddings(problem: Problem, budget: int, dimensions: int, normalized: bool) -> np.ndarray:
    """Return the failures' penultimate embeddings, reduced, float32 [m, d]."""
    vectors = problem.embeddings[problem.failures]
    return _reduce(unit(vectors) if normalized else vectors, dimensions)


def last_layer(problem: Problem, budget: int, dimensions: int, normalized: bool) -> np.ndarray:
    """Return the failures' last-layer gradients, reduced, float32 [m, d]."""
    vectors = last_layer_gradients(problem, problem.failures)
    return _reduce(unit(vectors) if normalized else vectors, dimensions)


def influence(problem: Problem, budget: int) -> np.ndarray:
    """Return influence embeddings (InfEmbed, Wang et al. 2023) of the failures, float32 [m, RANK].

    Gradients of the last layer, whitened by the leading eigenvectors of their second moment over
    all samples, which stands in for the Hessian; the leading one first.
    """
    everything = last_layer_gradients(problem, np.arange(len(problem.labels)))
    moment = everything.T @ everything / len(everything)
    rank = min(RANK, len(moment))
    values, vectors = eigh(moment, subset_by_index=(len(moment) - rank, len(moment) - 1))
    whitening = vectors[:, ::-1] / np.sqrt(values[::-1] + 1e-8)
    return everything[problem.failures] @ whitening


def kmeans_influence(
    problem: Problem,
    vectors: np.ndarray,
    budget: int,
    rank: int,
    normalized: bool,
    clusters: int,
    order: str,
) -> Slices:
    """Return k-means clusters of the leading influence embeddings; see `kmeans`."""
    leading = vectors[:, :rank]
    return kmeans(problem, unit(leading) if normalized else leading, budget, clusters, order)


def kmeans(problem: Problem, vectors: np.ndarray, budget: int, clusters: int, order: str) -> Slices:
    """Return the largest k-means clusters of the failures' vectors [m, d], largest first."""
    found = KMeans(min(clusters, len(vectors)), random_state=0).fit_predict(vectors)
    features = vectors - vectors.mean(0)
    largest = np.argsort(-np.bincount(found), kind="stable")[:budget]
    members = [np.flatnonzero(found == k) for k in largest]
    return [_ranked(problem, features[m], problem.failures[m], order) for m in members]


def hdbscan(
    problem: Problem, budget: int, dimensions: int, smallest: int, core: int, leaves: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return HDBSCAN clusters of the failures' embeddings, int [m], and strengths, float [n]."""
    found = HDBSCAN(
        min_cluster_size=smallest,
        min_samples=core,
        cluster_selection_method="leaf" if leaves else "eom",
        copy=True,  # pyright: ignore[reportArgumentType]
    ).fit(embeddings(problem, budget, dimensions, normalized=True))
    strength = np.zeros(len(problem.labels))
    strength[problem.failures] = found.probabilities_
    return found.labels_, strength


def strongest(
    problem: Problem, found: tuple[np.ndarray, np.ndarray], budget: int, clear: bool
) -> Slices:
    """Return the largest clusters, surest members first."""
    clusters, strength = found
    if clear:
        strength = strength * (1 - problem.scores.label_probability)
    sizes = np.bincount(clusters[clusters >= 0])
    largest = np.argsort(-sizes, kind="stable")[:budget]
    return [by(problem.failures[clusters == k], strength) for k in largest]


def last_layer_gradients(problem: Problem, rows: np.ndarray) -> np.ndarray:
    """Return ∂CE/∂W of the last linear layer, flattened, float32 [len(rows), C·E]."""
    logits = problem.logits[rows].astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(rows)), problem.labels[rows]] -= 1
    outer = p[:, :, None] * problem.embeddings[rows][:, None, :]
    return outer.reshape(len(rows), -1).astype(np.float32)


def _reduce(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Return principal components, or the vectors themselves where there are no more columns."""
    if dimensions >= min(vectors.shape):
        return vectors
    return PCA(dimensions, random_state=0).fit_transform(vectors)


def _ranked(problem: Problem, features: np.ndarray, rows: np.ndarray, order: str) -> np.ndarray:
    return rows[ORDERS[order](unit(features), problem.scores.label_probability[rows])]


CLUSTERS = (15, 20, 30, 45, 60)


def _kmeans_of(
    vectors: Callable[..., np.ndarray], dimensions: tuple[int, ...], chosen: int, order: str
) -> Family:
    return Family(
        vectors,
        kmeans,
        fitted={"dimensions": dimensions, "normalized": (False, True)},
        cuts={"clusters": CLUSTERS, "order": tuple(ORDERS)},
        chosen={"dimensions": chosen, "normalized": False, "clusters": 30, "order": order},
    )


PEERS: dict[str, Family] = {
    "confusion pairs": Family(
        pairs_of,
        in_order,
        fitted={},
        cuts={"order": (*ORDERS, "confidence", "loss", "entropy")},
        chosen={"order": "confidence"},
    ),
    "loss": Family(
        failures_by,
        runs_of,
        fitted={"order": ("loss", "confidence", "entropy")},
        cuts={"step": (5, 10)},
        chosen={"order": "loss", "step": 10},
    ),
    "k-means, embeddings": _kmeans_of(embeddings, (16, 32, 64, 192), 192, "typical"),
    "HDBSCAN, embeddings": Family(
        hdbscan,
        strongest,
        fitted={
            "dimensions": (16, 64),
            "smallest": (4, 6, 8, 12, 20),
            "core": (1, 3),
            "leaves": (False, True),
        },
        cuts={"clear": CLEAR},
        chosen={"dimensions": 16, "smallest": 6, "core": 1, "leaves": True, "clear": True},
    ),
    "Domino mixture": Family(
        domino_fit,
        domino_cut,
        fitted={
            "gamma": (1.0, 3.0, 10.0, 30.0, 100.0),
            "dimensions": (16, 64, 192),
            "components": (30, 45),
        },
        cuts={"clear": CLEAR},
        chosen={"gamma": 3.0, "dimensions": 64, "components": 30, "clear": True},
    ),
    "Spotlight": Family(
        spotlight_fit,
        spotlight_cut,
        fitted={
            "mass": (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04),
            "centred": (False, True),
            "dimensions": (16, 192),
        },
        cuts={"clear": CLEAR},
        chosen={"mass": 0.0025, "centred": False, "dimensions": 192, "clear": False},
    ),
    "k-means, last layer": _kmeans_of(last_layer, (4, 8, 16, 32, 64, 128), 16, "typical and clear"),
    "InfEmbed": Family(
        influence,
        kmeans_influence,
        fitted={},
        cuts={
            "rank": (4, 8, 16, 32, 64, 128, RANK),
            "normalized": (False, True),
            "clusters": (20, 30, 45, 60),
            "order": tuple(ORDERS),
        },
        chosen={"rank": 16, "normalized": False, "clusters": 30, "order": "typical and clear"},
    ),
}
PEERS["Domino mixture, as published"] = replace(
    PEERS["Domino mixture"], chosen=PEERS["Domino mixture"].chosen | {"gamma": 10.0, "clear": False}
)
