"""Top-k selection under a total order: higher score first, lower index on equal scores.

Confident correct images collapse to nearly one vector, so ties are the rule rather than the
exception in this data. A score and an index are packed into one unsigned integer that sorts like
the pair; selecting on these keys makes every result independent of block sizes and of the
selection algorithm.
"""

from collections.abc import Iterator

import numpy as np

from .threads import in_threads

ABSENT = np.uint64(0)
"""Key that sorts below every score, -inf included; stands for "no neighbour"."""

_CACHED_SCORES = 2**17
_SIGN = np.uint32(0x80000000)
_INDEX_MASK = np.uint64(0xFFFFFFFF)


def pack(scores: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return sortable keys of scores and indices.

    Args:
        scores: float32, any shape; NaN stands for "no score" and becomes `ABSENT`.
        indices: integers in [0, 2**32 - 1), broadcastable to `scores`.

    Returns:
        uint64 of the broadcast shape; larger is better, and of equal scores the lower index.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0
    bits = scores.view(np.uint32)
    # Positive floats sort like their bits; negative ones in reverse.
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    keys = ordered.astype(np.uint64) << np.uint64(32)
    keys = keys | (_INDEX_MASK - np.asarray(indices, dtype=np.uint64))
    return np.where(np.isnan(scores), ABSENT, keys)


def unpack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (scores float32, indices int64) of keys; `ABSENT` gives NaN and -1."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered & _SIGN, ordered & ~_SIGN, ~ordered)
    indices = (_INDEX_MASK - (keys & _INDEX_MASK)).astype(np.int64)
    absent = keys == ABSENT
    scores = np.where(absent, np.float32(np.nan), bits.view(np.float32))
    return scores, np.where(absent, np.int64(-1), indices)


def best(keys: np.ndarray, k: int) -> np.ndarray:
    """Return the k largest keys of each row, unordered: uint64 [n, min(k, columns)]."""
    columns = keys.shape[1]
    if k >= columns:
        return keys
    return np.partition(keys, columns - k, axis=1)[:, columns - k :]


def descending(keys: np.ndarray) -> np.ndarray:
    """Return the keys of each row, best first."""
    return np.sort(keys, axis=1)[:, ::-1]


def merge(best_so_far: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the k best of both per row; k is the width of `best_so_far`."""
    k = best_so_far.shape[1]
    return best(np.concatenate([best_so_far, best(keys, k)], axis=1), k)


def merge_into(keys: np.ndarray, scores: np.ndarray, indices: np.ndarray) -> None:
    """Fold scores float32 [n, m] of rows `indices` [m] into the best keys [n, k], in place.

    Done in threads, for so many rows at a time that their scores stay in a core's cache.
    """
    step = max(1, _CACHED_SCORES // max(scores.shape[1], 1))

    def fold(starts: Iterator[int]) -> None:
        for first in starts:
            rows = slice(first, first + step)
            _fold(keys[rows], np.ascontiguousarray(scores[rows]), indices)

    if keys.size and scores.size:
        in_threads(fold, list(range(0, len(keys), step)))


def _fold(keys: np.ndarray, scores: np.ndarray, indices: np.ndarray) -> None:
    """Fold scores into keys, in place; packs and sorts only those that reach the k-th best."""
    (n, m), k = scores.shape, keys.shape[1]
    floors = unpack(keys.min(axis=1))[0]
    floors[np.isnan(floors)] = -np.inf
    reached = scores >= floors[:, None]
    if k < m and np.count_nonzero(reached) > n * k:  # then let these scores raise their floors
        best_first = np.partition(-scores, k - 1, axis=1)  # NaN comes last, as the worst
        floors = np.fmax(floors, -best_first[:, k - 1])
        reached = scores >= floors[:, None]
    rows, columns = np.divmod(np.flatnonzero(reached), m)
    if not len(rows):
        return
    counts = np.bincount(rows, minlength=n)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    fresh = np.full((n, counts.max()), ABSENT)
    fresh[rows, places] = pack(scores[rows, columns], indices[columns])
    touched = np.flatnonzero(counts)
    keys[touched] = merge(keys[touched], fresh[touched])
