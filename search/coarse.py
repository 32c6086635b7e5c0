"""Profiles in one byte a value, and what they prove of the cosines of the profiles themselves.

A row x of length |x| is rounded to s q, with q whole numbers of a byte and a step s of its own. For
unit vectors u, v and their rounded forms, Cauchy-Schwarz gives

    u v  <=  u' v' + |u - u'| + |v - v'| + |u - u'| |v - v'|,

and the products of bytes are exact. Their right-hand side, an *upper bound*, leaves out nearly all
rows that are not among the best of a query, for certain and at a quarter of the bytes of float32;
the few left are scored by `search.cosine`. This is the approximation file
of Weber, Schek and Blott (VLDB 1998) with products for distances. numkong multiplies the bytes;
without it there are no coarse profiles.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from . import topk
from .column import numkong
from .threads import in_threads

KEPT = 118
"""Rows kept beyond k by their upper bounds; a query that has more is searched in float32."""

_SIDE = 512
"""Rows that meet all others at once in a pass over pairs."""

_TOGETHER = 64
"""Rows packed at once: numkong multiplies wider packs at half the speed."""

_PIECE_BYTES = 2**22
"""Bytes of rows that a thread multiplies with one pack after the other."""

_ROUNDED_BYTES = 2**20
"""Bytes of float32 that a thread rounds at once."""

_SCORES = 4 * 2**20
"""Upper bounds of one block; sorting them takes a few times their 16 MB."""

_ROUNDING = 4e-6
"""More than the float32 arithmetic of an upper bound can be off."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Coarse:
    """N rows in bytes.

    Attributes:
        positions: which rows of the column they are, int64 [N], ascending.
        values: uint8, or int8 for profiles with signs, [N, F].
        scales: float32 [2, N]: the step of each row in parts of its length, and the length of what
            rounding took from the unit vector. NaN for rows of zeros, which have no cosine.
    """

    positions: np.ndarray
    values: np.ndarray
    scales: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


def coarsen(rows: np.ndarray, lengths: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the (values, scales) of `Coarse`.

    Args:
        rows: float32 [n, F].
        lengths: of the rows, float64 [n]; 0 or NaN for rows of zeros.
        signed: whether to round to int8. Unsigned, negative values count as 0, which only makes
            the bound of such a row a loose one.
    """
    dtype = np.int8 if signed else np.uint8
    top = min(int(np.iinfo(dtype).max), math.isqrt((2**31 - 1) // max(rows.shape[1], 1)))
    values = np.empty(rows.shape, dtype)
    scales = np.full((2, len(rows)), np.nan, np.float32)

    def round_rows(tasks: Iterator[slice]) -> None:
        for part in tasks:
            some = rows[part]
            step = (np.abs(some) if signed else some).max(axis=1, initial=0) / np.float32(top)
            whole = some / np.where(step > 0, step, 1)[:, None]
            np.rint(whole, out=whole)
            np.maximum(whole, -top if signed else 0, out=whole)
            values[part] = whole
            whole *= step[:, None]
            np.subtract(some, whole, out=whole)
            with np.errstate(invalid="ignore", divide="ignore"):
                lost = np.sqrt(np.einsum("ij,ij->i", whole, whole)) / lengths[part]
                scales[0, part] = np.where(lengths[part] > 0, step / lengths[part], np.nan)
            scales[1, part] = lost + _ROUNDING

    size = max(1, _ROUNDED_BYTES // (4 * max(rows.shape[1], 1)))
    in_threads(round_rows, [slice(at, at + size) for at in range(0, len(rows), size)])
    return values, scales


def best_keys(coarse: Coarse, queries: np.ndarray, lengths: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of largest upper bound for every query, as keys of `topk` [q, count].

    Args:
        coarse: the rows.
        queries: float32 [q, F].
        lengths: of the queries, float64 [q]; NaN for zero.
        count: rows a query. An index in a key is a row of the column, not of `coarse`.
    """
    signed = coarse.values.dtype == np.int8
    targets = _Targets(*coarsen(queries, lengths, signed))
    keys = np.full((len(queries), count), topk.ABSENT)
    step = max(1, _SCORES // max(len(queries), 1))
    for first in range(0, len(coarse), step):
        rows = slice(first, min(first + step, len(coarse)))
        bounds = targets.upper_bounds(coarse, rows)
        topk.merge_into(keys, bounds.T, coarse.positions[rows])
    return keys


def best_pairs(coarse: Coarse, count: int, progress: Progress | None = None) -> np.ndarray:
    """Return what `best_keys` gives for all rows as queries, without each row itself.

    Each pair is multiplied once and serves both sides.

    Args:
        coarse: the rows.
        count: rows for each.
        progress: called with (pairs done, pairs in all).
    """
    n, done = len(coarse), 0
    keys = np.full((n, count), topk.ABSENT)
    step = max(_SIDE, _SCORES // _SIDE)
    for first in range(0, n, _SIDE):
        side = slice(first, min(first + _SIDE, n))
        targets = _Targets(coarse.values[side], coarse.scales[:, side])
        for start in range(first, n, step):
            rows = slice(start, min(start + step, n))
            bounds = targets.upper_bounds(coarse, rows)
            seen = 0
            if start == first:  # the rows meet each other: both sides at once
                np.fill_diagonal(bounds, np.nan)
                seen = side.stop - side.start
            topk.merge_into(keys[rows], bounds, coarse.positions[side])
            topk.merge_into(keys[side], bounds[seen:].T, coarse.positions[rows][seen:])
            done += bounds.size - seen * (seen - 1) // 2
            if progress is not None:
                progress(done, n * (n + 1) // 2)
    return keys


class _Targets:
    """Rows in bytes, packed to be multiplied with many others."""

    def __init__(self, values: np.ndarray, scales: np.ndarray) -> None:
        library = _library()
        self._steps, self._errors = scales
        self._parts = [
            slice(at, min(at + _TOGETHER, len(values))) for at in range(0, len(values), _TOGETHER)
        ]
        self._packs: list[Any] = [library.dots_pack(values[part]) for part in self._parts]

    def upper_bounds(self, coarse: Coarse, rows: slice) -> np.ndarray:
        """Return the upper bounds of the cosines with some rows, float32 [n, q]; NaN for none."""
        library = _library()
        bounds = np.empty((rows.stop - rows.start, len(self._steps)), np.float32)
        size = max(1, _PIECE_BYTES // max(coarse.values.shape[1], 1))

        def multiply(starts: Iterator[int]) -> None:
            for start in starts:
                piece = slice(start, min(start + size, rows.stop))
                some, (steps, errors) = coarse.values[piece], coarse.scales[:, piece, None]
                found = bounds[start - rows.start : piece.stop - rows.start]
                for part, pack in zip(self._parts, self._packs, strict=True):
                    found[:, part] = library.dots_packed(some, pack)
                found *= steps
                found *= self._steps
                found += (1 + errors) * (1 + self._errors) - 1

        in_threads(multiply, list(range(rows.start, rows.stop, size)))
        return bounds


def _library() -> ModuleType:
    library = numkong()
    if library is None:
        raise ImportError("coarse profiles need numkong")
    return library
