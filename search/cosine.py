"""Exact cosine search: a quick pass bounds every cosine from above, float64 products rank the best.

The quick pass multiplies bytes (`search.coarse`) where the index keeps them of the rows searched,
else float32, and may round in an order that depends on block sizes and threads. It only chooses
candidates: the first of them, scored in float64, tell what the k-th score is at least, and every
row whose upper bound reaches that is scored as well. So what is returned is the true order, with
ties by id, however the pass was cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import topk
from .coarse import KEPT, Coarse, best_keys
from .column import Column
from .products import FEW_QUERIES, TOLERANCE, blocks, exact_dots, few_products, norms
from .threads import in_threads

SLACK = 32
"""Candidates kept beyond k in the float32 pass; where more tie, they are looked for again."""

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
    """What is searched: N profiles, their norms float64 [N] and their ids.

    `coarse` holds some of them in bytes; a search among exactly its positions goes by those.
    """

    column: Column
    norms: np.ndarray
    names: Names
    coarse: Coarse | None = None


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
    asked = _asked(queries, k, exclude)
    if profiles.coarse is not None and chosen is profiles.coarse.positions:
        width = max(asked.wanted) + KEPT
        keys = best_keys(profiles.coarse, queries, asked.lengths, width)
        return rank_keys(profiles, queries, k, keys, exclude)
    scored, floors = _scored(profiles, asked, _best_keys(profiles, asked, chosen))
    found = _ranked(profiles, asked, scored)
    left = np.flatnonzero(~np.isnan(floors))
    step = max(1, _SCORES // max(len(chosen), 1))
    for first in range(0, len(left), step):
        rows = left[first : first + step]
        found |= _ranked(profiles, asked, _at_least(profiles, asked, rows, floors, chosen))
    return [found[row] for row in range(len(queries))]


def rank_keys(
    profiles: Profiles,
    queries: np.ndarray,
    k: int,
    keys: np.ndarray,
    exclude: Sequence[np.ndarray] | None,
) -> list[Hits]:
    """Return what `exact_search` does among the rows of the coarse profiles, given their best keys.

    Args:
        profiles: with coarse ones.
        queries: float32 [q, F].
        k: rows a query.
        keys: of the rows of largest upper bound, uint64 [q, m], from `search.coarse`.
        exclude: positions not to return, per query.
    """
    if profiles.coarse is None:
        raise ValueError("there are no coarse profiles that these keys could be of")
    asked = _asked(queries, k, exclude)
    scored, floors = _scored(profiles, asked, keys)
    found = _ranked(profiles, asked, scored)
    left = np.flatnonzero(~np.isnan(floors))
    precise = replace(profiles, coarse=None)
    banned = [asked.exclude[row] for row in left.tolist()]
    again = exact_search(precise, queries[left], k, among=profiles.coarse.positions, exclude=banned)
    found |= dict(zip(left.tolist(), again, strict=True))
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
    """Queries float32 [q, F], their lengths float64 [q] (NaN for 0), and what to return.

    `wanted` rows of a query hold its k best, those it must not return among them.
    """

    vectors: np.ndarray
    lengths: np.ndarray
    k: int
    exclude: Sequence[np.ndarray]

    @property
    def wanted(self) -> list[int]:
        return [self.k + len(banned) for banned in self.exclude]


def _asked(queries: np.ndarray, k: int, exclude: Sequence[np.ndarray] | None) -> _Asked:
    none = [np.empty(0, np.int64)] * len(queries)
    return _Asked(queries, _lengths(queries), k, none if exclude is None else exclude)


_Scored = dict[int, tuple[np.ndarray, np.ndarray]]
"""(positions, cosines float32) of the rows that may be among the best of a query, by query."""


def _scored(profiles: Profiles, asked: _Asked, keys: np.ndarray) -> tuple[_Scored, np.ndarray]:
    """Score in float64 what may be among the best of every query.

    Args:
        profiles: the rows.
        asked: q queries.
        keys: the rows of largest upper bound of each, uint64 [q, m].

    Returns:
        The scored rows of all queries for which the keys hold all that is needed, and for the
        others a score that their k-th reaches, float32 [q]; NaN elsewhere.
    """
    uppers, positions = topk.unpack(topk.descending(keys))
    counts = np.count_nonzero(positions >= 0, axis=1).tolist()
    wanted = asked.wanted
    scored: _Scored = {}
    floors = np.full(len(keys), np.nan, np.float32)

    def score(rows: Iterator[int]) -> None:
        for row in rows:
            first = positions[row, : min(wanted[row], counts[row])]
            cosines = _cosines(profiles, asked, row, first)
            floor = cosines.min() if len(first) == wanted[row] else np.float32(-np.inf)
            reached = np.count_nonzero(uppers[row] >= floor)
            if reached == keys.shape[1]:
                floors[row] = floor
                continue
            more = positions[row, len(first) : reached]
            if len(more):
                cosines = np.concatenate([cosines, _cosines(profiles, asked, row, more)])
            scored[row] = positions[row, : len(cosines)], cosines

    in_threads(score, range(len(keys)))
    return scored, floors


def _cosines(profiles: Profiles, asked: _Asked, row: int, positions: np.ndarray) -> np.ndarray:
    """Return the cosines of one query with some rows, rounded once from float64: float32 [n]."""
    dots = exact_dots(profiles.column, asked.vectors[row], positions)
    cosines = dots / profiles.norms[positions] / asked.lengths[row]
    return np.clip(cosines, -1, 1).astype(np.float32)


def _ranked(profiles: Profiles, asked: _Asked, scored: _Scored) -> dict[int, Hits]:
    """Return the best k of the scored rows of each query, ties by id."""
    found = {}
    for row, (positions, cosines) in scored.items():
        for one in asked.exclude[row]:
            cosines, positions = cosines[positions != one], positions[positions != one]
        order = np.argsort(-cosines, kind="stable")
        positions, cosines = positions[order], cosines[order]
        if (cosines[1:] == cosines[:-1]).any():
            found[row] = _settled(profiles, Hits(positions, cosines), asked.k)
        else:
            found[row] = Hits(positions[: asked.k], cosines[: asked.k])
    return found


def _settled(profiles: Profiles, hits: Hits, k: int) -> Hits:
    """Return the best k of hits, ties by id."""
    positions, scores = hits.positions, hits.scores
    if len(scores) > k:  # spares the ids of rows that cannot be among the best
        reached = scores >= scores[k - 1]
        positions, scores = positions[reached], scores[reached]
    names = np.array(profiles.names(positions), dtype=object)
    order = np.lexsort((names, -scores))[:k]
    return Hits(positions[order], scores[order])


def _best_keys(profiles: Profiles, asked: _Asked, chosen: np.ndarray) -> np.ndarray:
    """Return the chosen rows of largest upper bound for every query, uint64 [q, m]."""
    keys = np.full((len(asked.vectors), max(asked.wanted) + SLACK), topk.ABSENT)
    for positions, uppers in _upper_bounds(profiles, asked, np.arange(len(keys)), chosen):
        topk.merge_into(keys, uppers, positions)
    return keys


def _at_least(
    profiles: Profiles, asked: _Asked, rows: np.ndarray, floors: np.ndarray, chosen: np.ndarray
) -> _Scored:
    """Score all rows whose upper bound reaches the floor of a query, for some of the queries."""
    reached: dict[int, list[np.ndarray]] = {row: [] for row in rows.tolist()}
    for positions, uppers in _upper_bounds(profiles, asked, rows, chosen):
        for found, hits in zip(reached.values(), uppers >= floors[rows, None], strict=True):
            found.append(positions[hits])
    candidates = {row: np.concatenate(found) for row, found in reached.items()}
    return {row: (some, _cosines(profiles, asked, row, some)) for row, some in candidates.items()}


def _upper_bounds(
    profiles: Profiles, asked: _Asked, rows: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions int64 [n], float32 [q, n]): what cosines of some queries are at most."""
    vectors = asked.vectors if len(rows) == len(asked.vectors) else asked.vectors[rows]
    lengths = asked.lengths[rows, None].astype(np.float32)

    def bounds(products: np.ndarray, positions: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of a row of zeros
            products /= profiles.norms[positions].astype(np.float32)
        products /= lengths
        products += np.float32(TOLERANCE)
        return products

    if len(rows) <= FEW_QUERIES:
        yield chosen, bounds(few_products(profiles.column, chosen, vectors), chosen)
        return
    step = max(1, _SCORES // len(rows))
    for places, block in blocks(profiles.column, chosen):
        positions = chosen[places]
        for first in range(0, len(block), step):
            part = slice(first, first + step)
            # This way round BLAS cuts the many rows between its threads, not the few queries.
            yield positions[part], bounds((block[part] @ vectors.T).T, positions[part])


def query_block(column: Column) -> int:
    """Return how many queries to search for at once."""
    return max(1, QUERY_BYTES // (4 * max(column.width, 1)))
