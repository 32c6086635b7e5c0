"""Exact cosine search: a blocked float32 pass finds candidates, float64 products rank them.

The float32 pass may round in an order that depends on block sizes and threads. Its scores only
choose candidates: everything that may reach the k-th score is scored again in float64, so what is
returned is the true order, with ties by id, however the pass was cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import topk
from .column import Column
from .products import FEW_QUERIES, TOLERANCE, blocks, exact_dots, few_products, norms

SLACK = 32
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
    chosen = np.arange(len(profiles.column)) if among is None else among
    banned = exclude if exclude is not None else [np.empty(0, np.int64)] * len(queries)
    asked = _Asked(queries, _lengths(queries), [k + len(rows) for rows in banned])
    found: dict[int, Hits] = {}
    for candidates in _candidates(profiles, asked, chosen):
        for row, positions in candidates.items():
            for one in banned[row]:
                positions = positions[positions != one]
            candidates[row] = positions
        found |= _rank(profiles, asked, candidates, k)
    return [found[row] for row in range(len(queries))]


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1 in float64, as float32 [n, F]; NaN for rows of zeros."""
    return (vectors / _lengths(vectors)[:, None]).astype(np.float32)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Return the length of every row, float64 [n]; NaN for rows of zeros."""
    lengths = norms(Column((vectors,), vectors.shape[1]))
    lengths[lengths == 0] = np.nan
    return lengths


@dataclass(frozen=True, eq=False)
class _Asked:
    """Queries float32 [q, F], their lengths float64 [q] (NaN for 0), and how many rows to find."""

    vectors: np.ndarray
    lengths: np.ndarray
    wanted: Sequence[int]


def _rank(
    profiles: Profiles, asked: _Asked, candidates: dict[int, np.ndarray], k: int
) -> dict[int, Hits]:
    """Score the candidates of some queries in float64 and return the best k of each."""
    if not candidates:
        return {}
    rows = np.array(list(candidates))
    counts = [len(positions) for positions in candidates.values()]
    positions = np.concatenate(list(candidates.values()))
    dots = [exact_dots(profiles.column, asked.vectors[q], p) for q, p in candidates.items()]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of a row of zeros
        cosines = np.concatenate(dots) / profiles.norms[positions]
    cosines = np.clip(cosines / np.repeat(asked.lengths[rows], counts), -1, 1).astype(np.float32)
    owners = np.repeat(rows, counts)
    order = np.lexsort((-cosines, owners))  # NaN comes last
    positions, cosines = positions[order], cosines[order]
    same = (cosines[1:] == cosines[:-1]) & (owners[1:] == owners[:-1])
    plain = ~np.isin(rows, owners[1:][same]) & ~np.isin(rows, owners[np.isnan(cosines)])
    found = {}
    first = 0
    for row, count, simple in zip(rows.tolist(), counts, plain.tolist(), strict=True):
        part = slice(first, first + (min(k, count) if simple else count))
        hits = Hits(positions[part], cosines[part])
        found[row] = hits if simple else _settled(profiles, hits, k)
        first += count
    return found


def _settled(profiles: Profiles, hits: Hits, k: int) -> Hits:
    """Return the best k of hits, ties by id, without rows that have no cosine."""
    present = ~np.isnan(hits.scores)
    positions, scores = hits.positions[present], hits.scores[present]
    if len(scores) > k:  # spares the ids of rows that cannot be among the best
        reached = scores >= scores[k - 1]
        positions, scores = positions[reached], scores[reached]
    names = np.array(profiles.names(positions), dtype=object)
    order = np.lexsort((names, -scores))[:k]
    return Hits(positions[order], scores[order])


def _candidates(
    profiles: Profiles, asked: _Asked, chosen: np.ndarray
) -> Iterator[dict[int, np.ndarray]]:
    """Yield the positions of all rows that may be among the best of a query, by query."""
    keys = np.full((len(asked.vectors), max(asked.wanted) + SLACK), topk.ABSENT)
    everyone = np.arange(len(keys))
    for positions, scores in _scored_blocks(profiles, asked, everyone, chosen):
        topk.merge_into(keys, scores, positions)
    scores, positions = topk.unpack(topk.descending(keys))
    floors, whole = _floors(scores, asked.wanted)
    yield {
        row: positions[row][scores[row] >= floors[row]] for row in np.flatnonzero(whole).tolist()
    }
    step = max(1, _SCORES // max(len(chosen), 1))
    rest = np.flatnonzero(~whole)
    for first in range(0, len(rest), step):
        yield _at_least(profiles, asked, rest[first : first + step], floors, chosen)


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
    profiles: Profiles, asked: _Asked, rows: np.ndarray, floors: np.ndarray, chosen: np.ndarray
) -> dict[int, np.ndarray]:
    """Return all positions whose score reaches the floor of a query, for some of the queries."""
    reached: dict[int, list[np.ndarray]] = {row: [] for row in rows.tolist()}
    for positions, scores in _scored_blocks(profiles, asked, rows, chosen):
        for found, hits in zip(reached.values(), scores >= floors[rows, None], strict=True):
            found.append(positions[hits])
    return {row: np.concatenate(found) for row, found in reached.items()}


def _scored_blocks(
    profiles: Profiles, asked: _Asked, rows: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions int64 [n], cosines float32 [q, n]) of some queries with the rows chosen."""
    vectors = asked.vectors if len(rows) == len(asked.vectors) else asked.vectors[rows]
    lengths = asked.lengths[rows, None].astype(np.float32)

    def cosines(products: np.ndarray, positions: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of a row of zeros
            products /= profiles.norms[positions].astype(np.float32)
        products /= lengths
        return products

    column, places_there = profiles.column.at_hand(chosen)
    if len(rows) <= FEW_QUERIES:
        yield chosen, cosines(few_products(column, places_there, vectors), chosen)
        return
    step = max(1, _SCORES // len(rows))
    for places, block in blocks(column, places_there):
        positions = chosen[places]
        for first in range(0, len(block), step):
            part = slice(first, first + step)
            # This way round BLAS cuts the many rows between its threads, not the few queries.
            yield positions[part], cosines((block[part] @ vectors.T).T, positions[part])


def query_block(column: Column) -> int:
    """Return how many queries to search for at once."""
    return max(1, QUERY_BYTES // (4 * max(column.width, 1)))
