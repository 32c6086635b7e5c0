"""Products of stored profiles with queries, read at the speed of memory.

A few queries have one pass over the profiles each piece of which is multiplied while it is in the
processor's cache, in threads of our own: numpy releases the interpreter's lock meanwhile, and
BLAS's threads would wait for each other at every small product. Many queries have matrix products
over blocks, which keep BLAS's threads busy.
"""

from collections.abc import Callable, Iterator

import numpy as np

from .column import PIECE_BYTES, Column, Piece, numkong, widened
from .threads import in_threads

FEW_QUERIES = 4
"""Up to here rows are multiplied one by one; beyond, in blocks by a matrix product."""

_STORED_BYTES = 2**22
"""Bytes of rows multiplied at once where they lie: starting a piece costs nothing beside."""

_MEASURED_BYTES = 2**18
"""Bytes of rows that are copied as float64 at once."""

_SCORED_BYTES = 2**19
"""Bytes of stored rows that are multiplied with a query each at once."""

_WORTH_THREADS = 32
"""Rows multiplied with a query each beyond which threads take less time than waking them."""

_SEGMENT = 512
"""Values of a dot product summed at once, about."""

_HALF_RUN = 2**15
"""Values of a dot product that numkong sums at once, in eight lanes or more."""

_HALF_TOP = np.float32(2**13)
"""Bound of the values of a query in half floats."""

TOLERANCE = 2.5e-4
"""How far a product may be off, in parts of the product of both lengths.

A float32 sum whose terms pass through D additions each is off by at most D 2^-24 times the sum of
their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 4.2), which is at most
the product of the lengths (Cauchy-Schwarz). So D up to 4,096 is covered. Ours is below:
`_SEGMENT` and one addition a segment, `_HALF_RUN` / 8, and in matrix products of OpenBLAS a block
of at most 768 and one addition a block."""

Dots = Callable[[np.ndarray], np.ndarray]
"""Gives the products of rows as they are stored [n, F] with all queries, float32 [q, n]."""


def few_products(column: Column, positions: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the products of chosen rows with a few queries, float32 [q, n].

    Args:
        column: the profiles.
        positions: rows to multiply, int64 [n], ascending.
        queries: float32 [q, F].
    """
    products = np.empty((len(queries), len(positions)), np.float32)
    dots = half_dots(queries) if column.dtype == np.float16 else None
    dots = dots or float_dots(queries)
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
            # Unlike a product by BLAS, this starts no threads.
            found[piece.places] = np.sqrt(np.einsum("ij,ij->i", wide, wide))

    size = column.rows_in(_MEASURED_BYTES)
    in_threads(measure, list(column.pieces(np.arange(len(column)), size)))
    return found


def exact_dots(
    column: Column, positions: np.ndarray, queries: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Return the product of each row with a query of its own, summed in float64: [m].

    Those of float32 values are exact in float64. Every row is summed in an order of its own, so
    what is asked for with it does not change its product.

    Args:
        column: the profiles.
        positions: rows to multiply, in any order, int64 [m].
        queries: float32 [q, F].
        owners: which of the queries a row is multiplied with, int64 [m].
    """
    library = numkong()
    dots = _dots_in_turn if library is None else library.dot
    found = np.empty(len(positions))
    size = column.rows_in(_SCORED_BYTES)

    def multiply(pieces: Iterator[Piece]) -> None:
        stored = np.empty((size, column.width), column.dtype)
        copies = np.empty((size, column.width), np.float32)
        for piece in pieces:
            rows = widened(piece.read(stored))
            out = copies[: len(rows)]
            asked = np.take(queries, owners[piece.places], axis=0, out=out, mode="clip")
            found[piece.places] = dots(rows, asked)

    pieces = list(column.pieces(positions, size))
    if len(positions) > _WORTH_THREADS:
        in_threads(multiply, pieces)
    else:
        multiply(iter(pieces))
    return found


def _dots_in_turn(rows: np.ndarray, queries: np.ndarray) -> list[float]:
    pairs = zip(rows.astype(np.float64), queries.astype(np.float64), strict=True)
    return [np.einsum("i,i", row, query) for row, query in pairs]


def float_dots(queries: np.ndarray) -> Dots:
    """Return the products of float32 rows, or of half floats widened before."""
    width = queries.shape[1]
    count = max(1, width // _SEGMENT)
    even = width // count * count
    cut = queries[:, :even].reshape(len(queries), count, -1)

    def dots(rows: np.ndarray) -> np.ndarray:
        wide = widened(rows)
        # In segments, since numpy keeps the interpreter's lock for less than 500 dot products.
        segments = wide[:, :even].reshape(len(wide), count, -1)
        products = np.empty((len(queries), len(wide)), np.float32)
        for query, segment, sums in zip(queries, cut, products, strict=True):
            sums[:] = np.vecdot(segments, segment).sum(axis=1)
            sums += np.vecdot(wide[:, even:], query[even:])
        return products

    return dots


def half_dots(queries: np.ndarray) -> Dots | None:
    """Return the products of half-float rows by numkong; None where it is not installed.

    Rows are multiplied as they are stored, at twice the speed of widening them first. A query
    becomes the sum of two half floats a value, which is within 2^-22 of it; numkong adds the
    products, exact in float32, in float32.
    """
    library = numkong()
    if library is None:
        return None
    # Powers of two, which bring every query to where half floats have their full precision.
    top = np.abs(queries).max(axis=1, keepdims=True)
    scales = np.exp2(np.floor(np.log2(_HALF_TOP / np.where(top == 0, 1, top))))
    scaled = queries * scales
    high = scaled.astype(np.float16)
    low = (scaled - high).astype(np.float16)
    halves = np.concatenate([high, low])
    runs = [slice(first, first + _HALF_RUN) for first in range(0, queries.shape[1], _HALF_RUN)]
    packed = [library.dots_pack(np.ascontiguousarray(halves[:, run])) for run in runs]

    def dots(rows: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(rows), len(halves)), np.float32)
        for run, part in zip(runs, packed, strict=True):
            sums += np.asarray(library.dots_packed(rows[:, run], part))
        return (sums[:, : len(queries)] + sums[:, len(queries) :]).T / scales

    return dots
