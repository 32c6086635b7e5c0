"""Exact cosine search: a blocked float32 pass finds candidates, float64 products rank them.

The float32 pass may round in an order that depends on block sizes and threads. Its scores only
choose candidates: everything within `TOLERANCE` of the k-th score is scored again in float64, so
what is returned is the true order, with ties by id, however the pass was cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import topk
from .column import Column
from .products import FEW_QUERIES, blocks, exact_dots, few_products
from .threads import in_threads

TOLERANCE = 1e-4
"""Half-width of the band around the k-th score in which candidates are ranked again.

A float32 sum whose terms pass through D additions each is off by at most D 2^-24 times the sum of
their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), which is at most 1
for unit vectors (Cauchy-Schwarz); the square root halves the like error of the norm. So D up to
1,000 is covered. Ours is below: dot products cut into runs of `RUN` have `RUN` / 8 where a
processor adds eight lanes, matrix products of OpenBLAS a block of at most 768 and one addition a
block."""

SLACK = 64
"""Candidates kept beyond k in the blocked pass; where more tie, they are looked for again."""

QUERY_BYTES = 32 * 2**20
"""Bytes of float32 of the queries that are searched for at once."""

_SCORES = 4 * 2**20
"""Scores of one block of a product; sorting them takes a few times their 16 MB."""

Names = Callable[[np.ndarray], Sequence[str]]
"""Gives the ids of positions."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The best rows of one query.

    Attributes:
        positions: rows of the column, int64 [m], m ≤ k.
        scores: cosines, float32 [m], descending: rounded once from float64.
    """

    positions: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Profiles:
    """What is searched: N profiles, their norms float64 [N] and their ids."""

    column: Column
    norms: np.ndarray
    names: Names


def exact_search(
    profiles: Profiles,
    queries: np.ndarray,
    k: int,
    *,
    among: np.ndarray | None = None,
    exclude: Sequence[np.ndarray] | None = None,
) -> list[Hits]:
    """Return the k rows of largest cosine for every query.

    Args:
        profiles: N profiles of F values.
        queries: float32 [q, F]; `query_block` of them at once keep memory bounded.
        k: rows a query; fewer are returned where fewer are left.
        among: positions to search, ascending; None for all. No other row is read.
        exclude: positions not to return, per query.

    Returns:
        One `Hits` a query. Rows of zeros have no cosine and are never returned; a query of zeros
        has no neighbours.
    """
    if not len(queries):
        return []
    units = unit_rows(queries)
    chosen = np.arange(len(profiles.column)) if among is None else among
    banned = exclude if exclude is not None else [np.empty(0, np.int64)] * len(units)
    found: dict[int, Hits] = {}

    def rank_each(items: Iterator[tuple[int, np.ndarray]]) -> None:
        for row, positions in items:
            for one in banned[row]:
                positions = positions[positions != one]
            found[row] = rank(profiles, units[row], positions, k)

    for candidates in _candidates(profiles, units, chosen, [k + len(rows) for rows in banned]):
        in_threads(rank_each, candidates)
    return [found[row] for row in range(len(units))]


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1 in float64, as float32 [n, F]; NaN for rows of zeros."""
    units = np.empty(vectors.shape, np.float32)
    for row, unit in zip(vectors, units, strict=True):  # one by one they stay in the cache
        wide = row.astype(np.float64)
        length = np.sqrt(np.vecdot(wide, wide))
        unit[:] = wide / length if length else np.nan
    return units


def rank(profiles: Profiles, query: np.ndarray, positions: np.ndarray, k: int) -> Hits:
    """Score candidate rows in float64 and return the best k, ties by id.

    Args:
        profiles: the rows.
        query: float32 [F] of any length but zero.
        positions: candidates, int64 [m].
        k: rows to return.
    """
    scores = exact_cosines(profiles, query, positions)
    present = ~np.isnan(scores)
    positions, scores = positions[present], scores[present]
    if len(positions) > k:  # spares the ids of candidates that cannot be among the best
        floor = np.partition(scores, -k)[-k]
        positions, scores = positions[scores >= floor], scores[scores >= floor]
    keys: tuple[np.ndarray, ...] = (-scores,)
    if len(np.unique(scores)) < len(scores):
        keys = (np.array(profiles.names(positions), dtype=object), -scores)
    order = np.lexsort(keys)[:k]
    return Hits(positions[order], scores[order])


def exact_cosines(profiles: Profiles, query: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the cosines of rows with the query, float64 rounded to float32 [m], NaN for zeros."""
    dots = exact_dots(profiles.column, query, positions)
    wide = query.astype(np.float64)
    lengths = profiles.norms[positions] * np.sqrt(np.vecdot(wide, wide))
    lengths[lengths == 0] = np.nan
    return np.clip(dots / lengths, -1, 1).astype(np.float32)


def _candidates(
    profiles: Profiles, units: np.ndarray, chosen: np.ndarray, wanted: Sequence[int]
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield lists of (query, positions): all rows that may be among the best `wanted` of each."""
    keys = np.full((len(units), max(wanted) + SLACK), topk.ABSENT)
    for positions, scores in _scored_blocks(profiles, units, chosen):
        topk.merge_into(keys, scores, positions)
    scores, positions = topk.unpack(topk.descending(keys))
    floors, whole = _floors(scores, wanted)
    yield [
        (row, positions[row][scores[row] >= floors[row]]) for row in np.flatnonzero(whole).tolist()
    ]
    yield from _at_least(profiles, units, chosen, floors, np.flatnonzero(~whole))


def _floors(scores: np.ndarray, wanted: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the least score of a candidate of every query, and whether all of them were kept.

    Args:
        scores: the best of every query, float32 [q, m], descending, NaN where there were fewer.
        wanted: how many are to be found for each.
    """
    floors = scores[np.arange(len(scores)), np.array(wanted) - 1] - 2 * TOLERANCE
    cut = ~np.isnan(scores[:, -1])
    return np.where(cut, floors, -np.inf), ~cut | (scores[:, -1] < floors)


def _at_least(
    profiles: Profiles,
    units: np.ndarray,
    chosen: np.ndarray,
    floors: np.ndarray,
    queries: np.ndarray,
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield (query, all positions whose score reaches its floor) for some of the queries."""
    step = max(1, _SCORES // max(len(chosen), 1))
    for first in range(0, len(queries), step):
        rows = queries[first : first + step]
        reached: list[list[np.ndarray]] = [[] for _ in rows]
        for positions, scores in _scored_blocks(profiles, units[rows], chosen):
            for found, hits in zip(reached, scores >= floors[rows, None], strict=True):
                found.append(positions[hits])
        yield [(int(row), np.concatenate(f)) for row, f in zip(rows, reached, strict=True)]


def _scored_blocks(
    profiles: Profiles, units: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions int64 [n], cosines float32 [q, n]) of the rows chosen."""
    if len(units) <= FEW_QUERIES:
        products = few_products(profiles.column, chosen, units)
        yield chosen, _normalised(products, profiles, chosen)
        return
    for places, rows in blocks(profiles.column, chosen):
        positions = chosen[places]
        step = max(1, _SCORES // len(units))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            # This way round BLAS cuts the many rows between its threads, not the few queries.
            scores = (rows[part] @ units.T).T
            yield positions[part], _normalised(scores, profiles, positions[part])


def _normalised(products: np.ndarray, profiles: Profiles, positions: np.ndarray) -> np.ndarray:
    """Divide products [q, n] by the norms of their rows, in place."""
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of a row of zeros
        products /= profiles.norms[positions].astype(np.float32)
    return products


def query_block(column: Column) -> int:
    """Return how many queries to search for at once."""
    return max(1, QUERY_BYTES // (4 * max(column.width, 1)))
