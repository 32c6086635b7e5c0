"""Cut the neighbour graph of failures into modes."""

from collections.abc import Callable

import numpy as np

from indexer.progress import Progress, Tracker, silent

from ..graph import knn_graph
from .settings import ModeSettings

UNGROUPED = -1
MANY = 1_000
"""Failures from which on the resolution counts in full; see `ModeSettings.resolution`."""


def communities(
    features: np.ndarray, settings: ModeSettings, progress: Progress = silent
) -> np.ndarray:
    """Group samples by the communities of their neighbour graph.

    Louvain communities (Blondel et al. 2008, arXiv 0803.0476) of the graph in which two samples
    are linked by their positive cosine, twice where each is among the other's neighbours.

    Args:
        features: unit features float32 [n, d].
        settings: neighbours, resolution, min_size, min_support and seed are used.
        progress: shows how many samples were compared, and that they are being grouped.

    Returns:
        group of each sample, int64 [n], 0 for the largest; -1 for samples in groups below
        `min_size` and for samples that hang mostly on other groups.
    """
    n = len(features)
    if n <= settings.min_size:
        return np.full(n, UNGROUPED)
    with progress("Comparing failures", n, 0) as tracker:
        counted = _counted_in_rows(n, tracker)
        indices, scores = knn_graph(features, settings.neighbours, progress=counted)
    weights = np.where(indices < 0, 0, np.maximum(np.nan_to_num(scores), 0))
    with progress("Grouping failures", 1, 0) as tracker:
        groups = _louvain(indices, weights, settings)
        tracker.advance(1)
    return _keep_supported(groups, indices, weights, settings)


def _counted_in_rows(n: int, tracker: Tracker) -> Callable[[int, int], None]:
    """Return what tells a tracker of n rows how many pairs are done, by their share."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        rows = n * done // total
        tracker.advance(rows - told)
        told = rows

    return tell


def _louvain(indices: np.ndarray, weights: np.ndarray, settings: ModeSettings) -> np.ndarray:
    import networkx as nx
    from scipy.sparse import csr_array

    n, k = indices.shape
    rows = np.repeat(np.arange(n), k)
    directed = csr_array((weights.ravel(), (rows, np.maximum(indices, 0).ravel())), shape=(n, n))
    graph = nx.from_scipy_sparse_array(directed + directed.T)
    resolution = max(min(settings.resolution, 1), settings.resolution * min(1, n / MANY))
    found = nx.community.louvain_communities(graph, resolution=resolution, seed=settings.seed)
    groups = np.empty(n, np.int64)
    for group, members in enumerate(found):
        groups[list(members)] = group
    return groups


def _keep_supported(
    groups: np.ndarray, indices: np.ndarray, weights: np.ndarray, settings: ModeSettings
) -> np.ndarray:
    """Drop weakly attached samples, then small groups, and number the rest by size."""
    inside = (groups[np.maximum(indices, 0)] == groups[:, None]) * weights
    support = inside.sum(1) / np.maximum(weights.sum(1), 1e-12)
    kept = np.where(support >= settings.min_support, groups, UNGROUPED)
    values, sizes = np.unique(kept[kept != UNGROUPED], return_counts=True)
    large = sizes >= settings.min_size
    by_size = values[large][np.argsort(-sizes[large], kind="stable")]
    numbered = np.full(len(groups), UNGROUPED)
    for number, value in enumerate(by_size):
        numbered[kept == value] = number
    return numbered
