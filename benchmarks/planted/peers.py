"""Slice discovery methods that the modes are compared with; all see the same failures.

Each takes a `Problem` and a budget and returns at most that many slices: arrays of rows of
misclassified samples, best first, so that precision@10 reads the first ten of each. K-means,
confusion pairs and Spotlight were tuned on the models in `TUNING`; k-means clusters show clear
failures first, as the modes do.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.linalg import eigh
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA

from search.modes.exemplars import typical_first

from .problems import Problem

Slices = list[np.ndarray]
Method = Callable[[Problem, int], Slices]


def confusion_pairs(problem: Problem, budget: int) -> Slices:
    """Return the most frequent (label, prediction) pairs, most confident failures first."""
    rows, scores = problem.failures, problem.scores
    pairs = problem.labels[rows] * problem.logits.shape[1] + scores.prediction[rows]
    values, counts = np.unique(pairs, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:budget]
    return [_by(rows[pairs == pair], scores.confidence) for pair in frequent]


def highest_loss(problem: Problem, budget: int) -> Slices:
    """Return consecutive runs of ten of the failures by loss."""
    ranked = _by(problem.failures, problem.scores.loss)
    return [ranked[start : start + 10] for start in range(0, len(ranked), 10)][:budget]


def kmeans_embeddings(problem: Problem, budget: int) -> Slices:
    """Return k-means clusters of the failures' penultimate embeddings."""
    return _kmeans(problem.embeddings[problem.failures], problem, budget)


def hdbscan_embeddings(problem: Problem, budget: int) -> Slices:
    """Return the largest HDBSCAN clusters of the failures' embeddings, surest members first."""
    rows = problem.failures
    reduced = PCA(min(16, problem.embeddings.shape[1]), random_state=0).fit_transform(
        _unit(problem.embeddings[rows])
    )
    found = HDBSCAN(min_cluster_size=8, min_samples=3, copy=True).fit(reduced)  # pyright: ignore
    sizes = np.bincount(found.labels_[found.labels_ >= 0])
    strength = np.zeros(len(problem.labels))
    strength[rows] = found.probabilities_
    largest = np.argsort(-sizes, kind="stable")[:budget]
    return [_by(rows[found.labels_ == cluster], strength) for cluster in largest]


def domino(
    problem: Problem,
    budget: int,
    gamma: float = 10.0,
    steps: int = 60,
    *,
    clear_first: bool = False,
) -> Slices:
    """Return the slices of Domino's error-aware mixture (Eyuboglu et al. 2022, section 5.2).

    A mixture whose components share a diagonal Gaussian of the embedding with categorical
    distributions of label and prediction, each weighted by gamma; as in the paper's code the
    embedding is reduced by PCA, components start from confusion pairs, and gamma is 10. Members
    come in the order of their weight in the component, times how clearly they fail if asked.
    """
    classes = problem.logits.shape[1]
    z = PCA(min(64, problem.embeddings.shape[1]), random_state=0).fit_transform(problem.embeddings)
    labels = np.eye(classes)[problem.labels]
    predictions = np.exp(problem.logits - problem.logits.max(1, keepdims=True))
    predictions /= predictions.sum(1, keepdims=True)
    weight = _start_from_pairs(problem, budget)
    for _ in range(steps):
        mass = weight.sum(0) + 1e-6
        mean = weight.T @ z / mass[:, None]
        variance = weight.T @ z**2 / mass[:, None] - mean**2 + 1e-2 * z.var()
        log_label = np.log(weight.T @ labels / mass[:, None] + 1e-6)
        log_prediction = np.log(weight.T @ predictions / mass[:, None] + 1e-6)
        log_density = -0.5 * (
            (z**2) @ (1 / variance).T
            - 2 * z @ (mean / variance).T
            + (mean**2 / variance + np.log(variance)).sum(1)
        )
        log_weight = log_density + gamma * (labels @ log_label.T + predictions @ log_prediction.T)
        log_weight += np.log(mass / mass.sum())
        weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
    rows = problem.failures
    best = weight[rows].argmax(1)
    if clear_first:
        weight *= 1 - problem.scores.label_probability[:, None]
    return [_by(rows[best == k], weight[:, k]) for k in range(budget) if (best == k).any()]


def spotlight(problem: Problem, budget: int, mass: float = 0.01, steps: int = 80) -> Slices:
    """Return regions of high loss in embedding space, one after another (d'Eon et al. 2021).

    Each spotlight is a centre and a radius that maximise the mean loss under a Gaussian weight
    which must cover at least `mass` of the samples; lit samples lose their loss for the next.
    """
    z = _unit(problem.embeddings)
    loss = np.minimum(problem.scores.loss.astype(np.float64), 10)
    left, found = loss.copy(), []
    for _ in range(budget):
        centre = z[int(left.argmax())]
        weight = np.zeros(len(z))
        for _ in range(steps // 10):
            distance = 1 - z @ centre
            weight = _gaussian(distance, mass)
            centre = (weight * left) @ z
            centre = centre / max(float(np.linalg.norm(centre)), 1e-12)
        found.append(_by(problem.failures, weight)[: max(10, round(mass * len(z)))])
        left *= 1 - weight
    return found


def kmeans_last_layer(problem: Problem, budget: int) -> Slices:
    """Return k-means clusters of the failures' normalized last-layer gradients."""
    gradients = _unit(last_layer_gradients(problem, problem.failures))
    return _kmeans(PCA(64, random_state=0).fit_transform(gradients), problem, budget)


def influence_embeddings(problem: Problem, budget: int, rank: int = 64) -> Slices:
    """Return k-means clusters of influence embeddings (InfEmbed, Wang et al. 2023).

    Gradients of the last layer, whitened by the leading eigenvectors of their second moment over
    all samples, which stands in for the Hessian.
    """
    everything = last_layer_gradients(problem, np.arange(len(problem.labels)))
    moment = everything.T @ everything / len(everything)
    values, vectors = eigh(moment, subset_by_index=(len(moment) - rank, len(moment) - 1))
    leading = vectors / np.sqrt(values + 1e-8)
    return _kmeans(everything[problem.failures] @ leading, problem, budget)


def last_layer_gradients(problem: Problem, rows: np.ndarray) -> np.ndarray:
    """Return ∂CE/∂W of the last linear layer, flattened, float32 [len(rows), C·E]."""
    logits = problem.logits[rows].astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(rows)), problem.labels[rows]] -= 1
    outer = p[:, :, None] * problem.embeddings[rows][:, None, :]
    return outer.reshape(len(rows), -1).astype(np.float32)


PEERS: dict[str, Method] = {
    "confusion pairs": confusion_pairs,
    "loss": highest_loss,
    "k-means, embeddings": kmeans_embeddings,
    "HDBSCAN, embeddings": hdbscan_embeddings,
    "Domino mixture": domino,
    "Domino, clear failures first": partial(domino, clear_first=True),
    "Spotlight": spotlight,
    "k-means, last layer": kmeans_last_layer,
    "InfEmbed": influence_embeddings,
}


def _start_from_pairs(problem: Problem, budget: int) -> np.ndarray:
    """Return starting responsibilities [n, budget]: confusion pairs, softened by chance."""
    classes = problem.logits.shape[1]
    pairs = problem.labels * classes + problem.scores.prediction
    values, counts = np.unique(pairs, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:budget]
    weight = np.random.default_rng(0).random((len(pairs), budget)) * 0.2
    for component, pair in enumerate(frequent):
        weight[pairs == pair, component] += 1
    return weight / weight.sum(1, keepdims=True)


def _gaussian(distance: np.ndarray, mass: float) -> np.ndarray:
    """Return weights exp(-d²/2r²) whose radius covers `mass` of the samples in sum."""
    low, high = 1e-4, 2.0
    for _ in range(30):
        radius = (low * high) ** 0.5
        weight = np.exp(-((distance / radius) ** 2) / 2)
        low, high = (low, radius) if weight.mean() > mass else (radius, high)
    return np.exp(-((distance / high) ** 2) / 2)


def _kmeans(vectors: np.ndarray, problem: Problem, budget: int) -> Slices:
    """Cluster the failures' vectors, largest cluster first, typical clear failures first."""
    rows = problem.failures
    cluster = KMeans(min(budget, len(vectors)), random_state=0).fit_predict(vectors)
    features, probability = _unit(vectors - vectors.mean(0)), problem.scores.label_probability[rows]
    slices = []
    for k in np.argsort(-np.bincount(cluster), kind="stable"):
        members = np.flatnonzero(cluster == k)
        order = typical_first(features[members], probability[members])
        slices.append(rows[members[order]])
    return slices


def _by(rows: np.ndarray, score: np.ndarray) -> np.ndarray:
    return rows[np.argsort(-score[rows], kind="stable")]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
