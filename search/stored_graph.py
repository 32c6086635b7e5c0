"""The neighbour graph of an index: among failures, all samples or those that pass filters."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexer.store import Store

from . import cache
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
    positions = version.matching(among, conditions)
    positions = np.arange(len(version)) if positions is None else positions
    ids = np.array(version.ids(positions), dtype=object)
    positions = positions[np.argsort(ids, kind="stable")]
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
