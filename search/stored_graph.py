"""The neighbour graph of an index: among failures, all samples or those that pass filters."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexer.store import Store

from . import cache
from .coarse import KEPT, Coarse, best_pairs
from .cosine import Asked, SearchedProfiles, query_block, rank_keys
from .graph import NeighbourGraph, Progress, knn_graph
from .neighbours import SearchSettings, parsed
from .predicates import Filter
from .snapshot import Among, Snapshot, snapshot

GRAPH_BLOCK_BYTES = 160 * 2**20
"""Bytes of the float32 block of profiles that the pass holds, at most."""

_BLOCK_ROWS = 4096


def neighbour_graph(
    store: Store,
    *,
    k: int = 10,
    among: Among = "failures",
    filters: Sequence[Filter | str] = (),
    progress: Progress | None = None,
) -> NeighbourGraph:
    """Return the graph of the k nearest neighbours among the chosen samples.

    The samples are in the order of their ids, so ties of scores are ordered by id. The graph is
    kept beside the table for as long as the table does not change; symmetric forms come from
    `NeighbourGraph.to_sparse`.

    Args:
        store: the index.
        k: neighbours a sample.
        among: "failures" or "all".
        filters: expressions or parsed filters; all must hold.
        progress: called with (pairs done, pairs in all); not called where the graph was kept.

    Raises:
        FilterError: a filter does not parse.
        SettingError: k below 1.
    """
    settings = SearchSettings(k=k, among=among, filters=tuple(filters))
    version = snapshot(store)
    conditions = parsed(version, settings)
    path = version.folder / f"graph-{_digest(settings, conditions)}.npz"
    kept = _read(path, version)
    if kept is not None:
        return kept
    chosen = version.matching(among, conditions)
    chosen = np.arange(len(version)) if chosen is None else chosen
    ids = np.array(version.ids(chosen), dtype=object)
    positions = chosen[np.argsort(ids, kind="stable")]
    profiles = version.profiles(chosen, many=True)
    if profiles.coarse is not None:
        indices, scores = _exact_graph(profiles, profiles.coarse, positions, k, progress)
    else:
        indices, scores = knn_graph(
            version.column.subset(positions),
            k,
            block=_block(len(positions), version.column.width),
            norms=version.norms[positions],
            progress=progress,
        )
    graph = NeighbourGraph(tuple(version.ids(positions)), indices, scores)
    arrays = {"positions": positions, "indices": indices, "scores": scores}
    cache.write(path, lambda file: np.savez(file, **arrays))
    return graph


def _exact_graph(
    profiles: SearchedProfiles,
    coarse: Coarse,
    positions: np.ndarray,
    k: int,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph by coarse products of all pairs and exact scores of the best.

    Args:
        profiles: the rows; coarse ones of those in the graph.
        coarse: the same coarse ones.
        positions: of the rows of the graph, int64 [n], in its order.
        k: neighbours a row.
        progress: as in `knn_graph`.

    Returns:
        As `knn_graph`.
    """
    n, k = len(positions), min(k, len(positions) - 1)
    indices = np.full((n, k), -1, np.int32)
    scores = np.full((n, k), np.nan, np.float32)
    keys = best_pairs(coarse, k + KEPT, progress)
    places = np.empty(n, np.int64)  # in the graph, of a row of the coarse profiles
    places[np.searchsorted(coarse.positions, positions)] = np.arange(n)
    step = query_block(profiles.column)
    for first in range(0, n if k else 0, step):
        part = slice(first, first + step)
        some = coarse.positions[part]
        lengths = np.where(profiles.norms[some] > 0, profiles.norms[some], np.nan)
        asked = Asked(profiles.column.rows(some), lengths, k, list(some[:, None]))
        found = rank_keys(profiles, asked, keys[part])
        for place, hits in zip(places[part].tolist(), found, strict=True):
            count = len(hits.positions)
            rows = np.searchsorted(coarse.positions, hits.positions)
            indices[place, :count] = places[rows]
            scores[place, :count] = hits.scores
    return indices, scores


def _block(rows: int, width: int) -> int:
    """Return the rows of a block, such that all blocks are about equally long."""
    most = max(1, min(GRAPH_BLOCK_BYTES // (4 * max(width, 1)), _BLOCK_ROWS))
    return -(-rows // max(1, -(-rows // most))) or 1


def _digest(settings: SearchSettings, filters: Sequence[Filter]) -> str:
    where = sorted(condition.to_sql() for condition in filters)
    text = json.dumps([settings.k, settings.among, where])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path, version: Snapshot) -> NeighbourGraph | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            ids = version.ids(file["positions"])
            return NeighbourGraph(tuple(ids), file["indices"], file["scores"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
