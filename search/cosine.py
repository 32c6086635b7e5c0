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
class SearchedProfiles:
    """What is searched: N profiles, their norms float64 [N] and their ids.

    `coarse` holds some of them in bytes; a search among exactly its positions goes by those.
    """

    column: Column
    norms: np.ndarray
    names: Names
    coarse: Coarse | None = None


def exact_search(
    profiles: SearchedProfiles,
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
    asked = Asked.of(queries, k, exclude)
    if profiles.coarse is not None and chosen is profiles.coarse.positions:
        width = max(asked.wanted) + KEPT
        return rank_keys(profiles, asked, best_keys(profiles.coarse, queries, asked.lengths, width))
    scored, floors = _scored(profiles, asked, _best_keys(profiles, asked, chosen))
    found = _ranked(profiles, asked, scored)
    left = np.flatnonzero(~np.isnan(floors))
    step = max(1, _SCORES // max(len(chosen), 1))
    for first in range(0, len(left), step):
        rows = left[first : first + step]
        found |= _ranked(profiles, asked, _at_least(profiles, asked, rows, floors, chosen))
    return [found[row] for row in range(len(queries))]


@dataclass(frozen=True, eq=False)
class Asked:
    """What is searched for.

    Attributes:
        vectors: queries, float32 [q, F].
        lengths: of the queries, float64 [q]; NaN for zero.
        k: rows to return for each.
        exclude: positions not to return, per query.
    """

    vectors: np.ndarray
    lengths: np.ndarray
    k: int
    exclude: Sequence[np.ndarray]

    @classmethod
    def of(cls, queries: np.ndarray, k: int, exclude: Sequence[np.ndarray] | None) -> "Asked":
        """Return queries with their lengths; None excludes nothing."""
        none = [np.empty(0, np.int64)] * len(queries)
        return cls(queries, lengths_of(queries), k, none if exclude is None else exclude)

    @property
    def wanted(self) -> list[int]:
        """How many rows of each query hold its k best, those not to return among them."""
        return [self.k + len(banned) for banned in self.exclude]


def rank_keys(profiles: SearchedProfiles, asked: Asked, keys: np.ndarray) -> list[Hits]:
    """Return what `exact_search` does among the rows of the coarse profiles, given their best keys.

    Args:
        profiles: with coarse ones.
        asked: q queries.
        keys: of the rows of largest upper bound, uint64 [q, m], from `search.coarse`.
    """
    if profiles.coarse is None:
        raise ValueError("there are no coarse profiles that these keys could be of")
    scored, floors = _scored(profiles, asked, keys)
    found = _ranked(profiles, asked, scored)
    left = np.flatnonzero(~np.isnan(floors)).tolist()
    again = exact_search(
        replace(profiles, coarse=None),
        asked.vectors[left],
        asked.k,
        among=profiles.coarse.positions,
        exclude=[asked.exclude[row] for row in left],
    )
    found |= dict(zip(left, again, strict=True))
    return [found[row] for row in range(len(keys))]


def rank_all(profiles: SearchedProfiles, asked: Asked, keys: np.ndarray) -> list[Hits]:
    """Return the best of candidates, of which only those are scored that their bounds leave open.

    Args:
        profiles: N profiles.
        asked: q queries.
        keys: of all candidates by what their cosines are at most, uint64 [q, m].
    """
    last = np.full((len(keys), 1), topk.ABSENT)  # there are no others behind them
    found = _ranked(profiles, asked, _scored(profiles, asked, np.append(keys, last, axis=1))[0])
    return [found[row] for row in range(len(keys))]


def unit_or_nan(vectors: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1 in float64, as float32 [n, F]; NaN for rows of zeros."""
    return (vectors / lengths_of(vectors)[:, None]).astype(np.float32)


def lengths_of(vectors: np.ndarray) -> np.ndarray:
    """Return the length of every row, float64 [n]; NaN for rows of zeros."""
    lengths = norms(Column((vectors,), vectors.shape[1]))
    lengths[lengths == 0] = np.nan
    return lengths


_Scored = dict[int, tuple[np.ndarray, np.ndarray]]
"""(positions, cosines float32) of the rows that may be among the best of a query, by query."""


def _scored(
    profiles: SearchedProfiles, asked: Asked, keys: np.ndarray
) -> tuple[_Scored, np.ndarray]:
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
    wanted = np.array(asked.wanted)
    cosines = np.full(keys.shape, np.inf, np.float32)

    def score(chosen: np.ndarray) -> None:
        owners, places = chosen.nonzero()
        cosines[owners, places] = _cosines(profiles, asked, positions[owners, places], owners)

    first = (positions >= 0) & (np.arange(keys.shape[1]) < wanted[:, None])
    score(first)
    enough = np.count_nonzero(first, axis=1) == wanted
    floors = np.where(enough, cosines.min(axis=1), -np.inf)
    reached = uppers >= floors[:, None]  # those of the first are among them
    whole = ~reached[:, -1]
    score(reached & ~first & whole[:, None])
    counts = np.count_nonzero(reached, axis=1).tolist()
    scored = {
        row: (positions[row, : counts[row]], cosines[row, : counts[row]])
        for row in np.flatnonzero(whole).tolist()
    }
    return scored, np.where(whole, np.nan, floors)


def _cosines(
    profiles: SearchedProfiles, asked: Asked, positions: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Return the cosines of rows with a query each, rounded once from float64: float32 [m]."""
    dots = exact_dots(profiles.column, positions, asked.vectors, owners)
    cosines = dots / profiles.norms[positions] / asked.lengths[owners]
    return np.clip(cosines, -1, 1).astype(np.float32)


def _ranked(profiles: SearchedProfiles, asked: Asked, scored: _Scored) -> dict[int, Hits]:
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


def _settled(profiles: SearchedProfiles, hits: Hits, k: int) -> Hits:
    """Return the best k of hits, ties by id."""
    positions, scores = hits.positions, hits.scores
    if len(scores) > k:  # spares the ids of rows that cannot be among the best
        reached = scores >= scores[k - 1]
        positions, scores = positions[reached], scores[reached]
    names = np.array(profiles.names(positions), dtype=object)
    order = np.lexsort((names, -scores))[:k]
    return Hits(positions[order], scores[order])


def _best_keys(profiles: SearchedProfiles, asked: Asked, chosen: np.ndarray) -> np.ndarray:
    """Return the chosen rows of largest upper bound for every query, uint64 [q, m]."""
    keys = np.full((len(asked.vectors), max(asked.wanted) + SLACK), topk.ABSENT)
    for positions, uppers in _upper_bounds(profiles, asked, np.arange(len(keys)), chosen):
        topk.merge_into(keys, uppers, positions)
    return keys


def _at_least(
    profiles: SearchedProfiles,
    asked: Asked,
    rows: np.ndarray,
    floors: np.ndarray,
    chosen: np.ndarray,
) -> _Scored:
    """Score all rows whose upper bound reaches the floor of a query, for some of the queries."""
    reached: dict[int, list[np.ndarray]] = {row: [] for row in rows.tolist()}
    for positions, uppers in _upper_bounds(profiles, asked, rows, chosen):
        for found, hits in zip(reached.values(), uppers >= floors[rows, None], strict=True):
            found.append(positions[hits])
    candidates = {row: np.concatenate(found) for row, found in reached.items()}
    return {
        row: (some, _cosines(profiles, asked, some, np.full(len(some), row)))
        for row, some in candidates.items()
    }


def _upper_bounds(
    profiles: SearchedProfiles, asked: Asked, rows: np.ndarray, chosen: np.ndarray
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
