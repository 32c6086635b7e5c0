"""Products of stored profiles with queries, read at the speed of memory.

A few queries have one pass over the profiles each piece of which is multiplied while it is in the
processor's cache, in threads of our own: numpy releases the interpreter's lock meanwhile, and
BLAS's threads would wait for each other at every small product. Many queries have matrix products
over blocks, which keep BLAS's threads busy.
"""

from collections.abc import Callable, Iterator

import numpy as np

from .column import PIECE_BYTES, RUN, Column, Piece, numkong, widened
from .threads import in_threads

FEW_QUERIES = 4
"""Up to here rows are multiplied one by one; beyond, in blocks by a matrix product."""

_STORED_BYTES = 2**22
"""Bytes of rows multiplied at once where they lie: starting a piece costs nothing beside."""

_HALF_SCALE = np.float32(4096)
"""Lifts the parts of a query out of the range where half floats lose precision."""

Dots = Callable[[np.ndarray], np.ndarray]
"""Gives the products of rows as they are stored [n, F] with all queries, float32 [q, n]."""


def few_products(column: Column, positions: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the products of chosen rows with a few queries, float32 [q, n].

    Args:
        column: the profiles.
        positions: rows to multiply, int64 [n], ascending.
        units: queries of length 1, float32 [q, F].
    """
    products = np.empty((len(units), len(positions)), np.float32)
    dots = half_dots(units) if column.dtype == np.float16 else None
    dots = dots or float_dots(units)
    whole = len(positions) == len(column)
    size = column.rows_in(_STORED_BYTES if whole else PIECE_BYTES)

    def multiply(pieces: Iterator[Piece]) -> None:
        buffer = np.empty((size, column.width), column.dtype)
        for piece in pieces:
            products[:, piece.places] = dots(piece.read(buffer))

    in_threads(multiply, list(column.pieces(positions, size)))
    return products


def blocks(column: Column, positions: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (places, float32 rows [n, F]) of chosen rows, about `column.block` at once.

    Rows are valid until the next are asked for. Those of a whole float32 column are not copied;
    others are gathered and widened into one buffer.

    Args:
        column: the profiles.
        positions: rows wanted, int64, ascending; `places` tells which of them a block holds.
    """
    if len(positions) == len(column) and column.dtype == np.float32:
        first = 0
        for rows in column.stored(column.block):
            yield slice(first, first + len(rows)), rows
            first += len(rows)
        return
    buffer = np.empty((min(column.block, len(positions)), column.width), np.float32)
    for first in range(0, len(positions), column.block):
        places = slice(first, min(first + column.block, len(positions)))
        rows = buffer[: places.stop - places.start]
        yield places, column.rows(positions[places], rows)


def norms(column: Column) -> np.ndarray:
    """Return the Euclidean norm of every row, float64 [N]."""
    found = np.empty(len(column))

    def measure(pieces: Iterator[Piece]) -> None:
        for piece in pieces:
            wide = piece.part[piece.rows].astype(np.float64)
            found[piece.places] = np.sqrt(np.vecdot(wide, wide))

    size = column.rows_in(PIECE_BYTES)
    in_threads(measure, list(column.pieces(np.arange(len(column)), size)))
    return found


def exact_dots(column: Column, query: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the dot products of rows with one query [F], in any order, float64 [m].

    Products of float32 values are exact in float64, and added in it.
    """
    library = numkong()
    if library is not None:  # it widens on the way
        rows = column.each(positions)
        return np.array([library.dot(widened(row), query) for row in rows], np.float64)
    wide = query.astype(np.float64)
    rows = column.each(positions)
    return np.array([np.vecdot(row.astype(np.float64), wide) for row in rows], np.float64)


def float_dots(units: np.ndarray) -> Dots:
    """Return the products of float32 rows, or of half floats widened before."""
    runs = [slice(first, first + RUN) for first in range(0, units.shape[1], RUN)]

    def dots(rows: np.ndarray) -> np.ndarray:
        wide = widened(rows)
        products = np.zeros((len(units), len(rows)), np.float32)
        for unit, sums in zip(units, products, strict=True):
            for run in runs:
                sums += np.vecdot(wide[:, run], unit[run])
        return products

    return dots


def half_dots(units: np.ndarray) -> Dots | None:
    """Return the products of half-float rows by numkong; None where it is not installed.

    Rows are multiplied as they are stored, at twice the speed of widening them first. A query
    becomes the sum of two half floats a value, which is within 2^-22 of it; numkong adds the
    products, exact in float32, in float32.
    """
    library = numkong()
    if library is None:
        return None
    scaled = units * _HALF_SCALE
    high = scaled.astype(np.float16)
    low = (scaled - high).astype(np.float16)
    halves = np.concatenate([high, low])
    runs = [slice(first, first + RUN) for first in range(0, units.shape[1], RUN)]
    packed = [library.dots_pack(np.ascontiguousarray(halves[:, run])) for run in runs]

    def dots(rows: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(rows), len(halves)), np.float32)
        for run, queries in zip(runs, packed, strict=True):
            sums += np.asarray(library.dots_packed(rows[:, run], queries))
        return (sums[:, : len(units)] + sums[:, len(units) :]).T / _HALF_SCALE

    return dots
