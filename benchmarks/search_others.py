"""The same searches by other libraries: LanceDB's own, FAISS, hnswlib and usearch."""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.search_ground import BATCH, MANY, QUERIES, Figures, Ground, K, once, repeated, timed
from search.cosine import unit_or_nan
from search.predicates import FAILURES, to_sql

IN_MEMORY = 6e9
"""Bytes of vectors that FAISS may copy into memory."""

_ADDED = 1024


def lancedb_search(ground: Ground, *, refine: int | None, flat: bool, count: int) -> Figures:
    """LanceDB's own search with a prefilter, as its documentation has it."""
    table = ground.store.table("samples")
    ids = {name: n for n, name in enumerate(ground.version.samples["id"].to_pylist())}

    def search(number: int) -> set[int]:
        query: Any = table.search(ground.queries[number], vector_column_name="profile")
        query = query.distance_type("cosine").where(str(to_sql([FAILURES])), prefilter=True)
        query = query.select(["id", "_distance"]).limit(K)
        query = query.bypass_vector_index() if flat else query
        query = query.refine_factor(refine) if refine else query
        return {ids[name] for name in query.to_arrow()["id"].to_pylist()}

    recall = ground.recall([search(number) for number in range(count)])
    return {**timed(search, count, warm=0), "recall": recall}


def flat(ground: Ground) -> Figures:
    """LanceDB without an index, and with the one that `ann` has built."""
    return {
        "LanceDB flat": lancedb_search(ground, refine=None, flat=True, count=4),
        "LanceDB IVF_RQ, refine 10": lancedb_search(ground, refine=10, flat=False, count=QUERIES),
    }


def pq(ground: Ground) -> Figures:
    """LanceDB's IVF_PQ as it comes, refined and not; replaces the index."""
    from lancedb.index import IvfPq

    table = ground.store.table("samples")
    config = IvfPq(distance_type="cosine")
    with ground.store.commit("samples"):
        seconds, _ = once(lambda: table.create_index("profile", config=config))
    size = next(index.size_bytes for index in table.list_indices() if index.columns == ["profile"])
    plain = lancedb_search(ground, refine=None, flat=False, count=QUERIES)
    refined = lancedb_search(ground, refine=10, flat=False, count=QUERIES)
    return {
        "LanceDB IVF_PQ": {**plain, "build_s": seconds, "bytes": size},
        "LanceDB IVF_PQ, refine 10": refined,
    }


def faiss(ground: Ground) -> Figures:
    """FAISS's flat inner product over unit vectors: all failures, and all rows if they fit."""
    failures, column = ground.version.failures, ground.version.column
    queries = unit_or_nan(ground.queries)
    index = _flat_index(ground, failures)
    many = index.reconstruct_n(0, min(len(failures), MANY))
    found = index.search(queries, K)[1]
    recall = ground.recall([set(failures[row].tolist()) for row in found])
    figures: Figures = {
        "FAISS flat": {**_single(index, queries, QUERIES), "recall": recall},
        f"FAISS flat, {BATCH} at once": repeated(partial(index.search, many[:BATCH], K)),
        f"FAISS flat, {len(many)} at once": repeated(partial(index.search, many, K)),
    }
    index.reset()
    if len(column) * column.width * 4 < IN_MEMORY:
        everything = _flat_index(ground, np.arange(len(column)))
        figures["FAISS flat, all"] = _single(everything, queries, 20)
        figures[f"FAISS flat, {BATCH} at once, all"] = repeated(
            partial(everything.search, many[:BATCH], K)
        )
    return figures


def _single(index: Any, queries: np.ndarray, count: int) -> Figures:
    times = timed(lambda n: index.search(queries[n : n + 1], K), count)
    return {**times, "bytes": index.ntotal * index.code_size}


def _flat_index(ground: Ground, positions: np.ndarray) -> Any:
    import faiss as library

    column = ground.version.column
    index = library.IndexFlatIP(column.width)
    index.codes.resize(len(positions) * 4 * column.width)  # at once: growing would copy it
    for first in range(0, len(positions), _ADDED):
        index.add(unit_or_nan(column.rows(positions[first : first + _ADDED])))
    return index


def hnswlib(ground: Ground) -> Figures:
    """A graph index over the failures."""
    import hnswlib as library

    failures = ground.version.failures
    vectors = unit_or_nan(ground.version.column.rows(failures))
    index = library.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=16)
    seconds, _ = once(lambda: index.add_items(vectors))
    index.set_ef(100)
    queries = unit_or_nan(ground.queries)
    found = index.knn_query(queries, K)[0].astype(np.int64)
    recall = ground.recall([set(failures[row].tolist()) for row in found])
    times = timed(lambda n: index.knn_query(queries[n : n + 1], K))
    return {"hnswlib": {**times, "recall": recall, "build_s": seconds, "bytes": vectors.nbytes}}


def usearch(ground: Ground) -> Figures:
    """The same by usearch."""
    from usearch.index import Index

    failures = ground.version.failures
    vectors = unit_or_nan(ground.version.column.rows(failures))
    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
    seconds, _ = once(lambda: index.add(np.arange(len(vectors)), vectors))
    queries = unit_or_nan(ground.queries)
    found = [index.search(query, K).keys.astype(np.int64) for query in queries]
    recall = ground.recall([set(failures[row].tolist()) for row in found])
    times = timed(lambda n: index.search(queries[n], K))
    return {"usearch": {**times, "recall": recall, "build_s": seconds, "bytes": vectors.nbytes}}
