"""The profiles of all samples as one read-only, memory-mapped column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from .threads import in_threads

BLOCK_BYTES = 128 * 2**20
"""Bytes of float32 that one block of a product may take."""

PIECE_BYTES = 2**20
"""Bytes of stored rows that are gathered at once: they stay in a core's own cache."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one part of a column, to be read together.

    Attributes:
        part: the part, as stored.
        rows: which of its rows, ascending; a slice where they lie end to end.
        places: their places among all rows that were asked for.
    """

    part: np.ndarray
    rows: slice | np.ndarray
    places: slice | np.ndarray

    def read(self, buffer: np.ndarray) -> np.ndarray:
        """Return the rows as stored, where they lie or else copied into the buffer."""
        if isinstance(self.rows, slice):
            return self.part[self.rows]
        # Into memory that is there already: fresh pages cost more than the copy.
        return np.take(self.part, self.rows, axis=0, out=buffer[: len(self.rows)], mode="clip")


@dataclass(frozen=True, eq=False)
class Column:
    """N rows of F values in one or several memory-mapped parts; validated.

    Rows are stored as float32 or float16 and always handed out as float32.
    """

    parts: tuple[np.ndarray, ...]
    width: int

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.ndim != 2 or part.shape[1] != self.width:
                raise ValueError(f"a part of shape {part.shape} in a column of width {self.width}")

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(part) for part in self.parts)])

    @property
    def block(self) -> int:
        """Rows a block, so that it takes about `BLOCK_BYTES`."""
        return max(1, BLOCK_BYTES // (4 * max(self.width, 1)))

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored values."""
        return self.parts[0].dtype if self.parts else np.dtype(np.float32)

    def stored(self, size: int) -> Iterator[np.ndarray]:
        """Yield the whole column as it is stored, at most `size` rows at once, uncopied."""
        for part in self.parts:
            for first in range(0, len(part), size):
                yield part[first : first + size]

    def pieces(self, positions: np.ndarray, size: int) -> Iterator[Piece]:
        """Yield the rows at positions, in any order, as pieces of at most `size` rows."""
        order = None
        if (positions[1:] < positions[:-1]).any():
            order = np.argsort(positions, kind="stable")
            positions = positions[order]
        cuts = np.searchsorted(positions, self._starts).tolist()
        for part, start, low, high in zip(
            self.parts, self._starts, cuts[:-1], cuts[1:], strict=False
        ):
            for first in range(low, high, size):
                places = slice(first, min(first + size, high))
                yield Piece(
                    part,
                    _slice_of(positions[places] - start),
                    places if order is None else order[places],
                )

    def rows(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows at these positions, in their order: float32 [n, F], a copy.

        Args:
            positions: int64 [n].
            out: float32 [n, F] to copy them to; None for new memory.
        """
        rows = np.empty((len(positions), self.width), np.float32) if out is None else out
        if rows.nbytes < PIECE_BYTES:
            for row, stored in zip(rows, self.each(positions), strict=True):
                row[:] = widened(stored)
            return rows

        def copy(pieces: Iterator[Piece]) -> None:
            buffer = np.empty((size, self.width), self.dtype)
            for piece in pieces:
                rows[piece.places] = widened(piece.read(buffer))

        size = self.rows_in(PIECE_BYTES)
        in_threads(copy, list(self.pieces(positions, size)))
        return rows

    def rows_in(self, size: int) -> int:
        """Return how many stored rows take this many bytes, at least 1."""
        return max(1, size // (self.dtype.itemsize * max(self.width, 1)))

    def each(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Yield single rows [F] in any order, as stored and where they lie."""
        parts = np.searchsorted(self._starts, positions, side="right") - 1
        within = positions - self._starts[parts]
        for part, row in zip(parts.tolist(), within.tolist(), strict=True):
            yield self.parts[part][row]

    def subset(self, positions: np.ndarray) -> "Rows":
        """Return some rows as an array that is gathered slice by slice."""
        return Rows(self, positions)


@dataclass(frozen=True, eq=False)
class Rows:
    """Chosen rows of a column: has a length, and gives float32 rows for a slice."""

    column: Column
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.read(rows)

    def read(self, rows: slice, out: np.ndarray | None = None) -> np.ndarray:
        """Return some of the rows, float32 [n, F], copied to `out` or new memory."""
        return self.column.rows(self.positions[rows], out)


def _slice_of(rows: np.ndarray) -> slice | np.ndarray:
    """Return ascending row numbers as a slice where they lie end to end."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    whole = last - first == len(rows) and (np.diff(rows) == 1).all()
    return slice(first, last) if whole else rows


def widened(rows: np.ndarray) -> np.ndarray:
    """Return float32 rows: the same memory for float32, a copy for float16.

    numpy widens half floats one at a time; numkong, where it is installed, does so with SIMD
    instructions, about twenty times as fast and to the same bits.
    """
    if rows.dtype != np.float16:
        return np.asarray(rows, dtype=np.float32)
    library = numkong()
    if library is None or not rows.size:
        return rows.astype(np.float32)
    wide = np.empty(rows.shape, np.float32)
    library.astype(np.ascontiguousarray(rows), "float32", out=wide)
    return wide


@cache
def numkong() -> ModuleType | None:
    """Return the library for half floats, an optional one; None where it is not installed."""
    try:
        import numkong as library
    except ImportError:
        return None
    return library


def map_parts(
    parts: Sequence[tuple[Path | IO[bytes], int, int]], width: int, dtype: np.dtype
) -> Column:
    """Map rows that lie in files.

    Args:
        parts: file, offset of the first row in bytes, number of rows.
        width: F, values a row.
        dtype: float32 or float16.

    Raises:
        OSError, ValueError: a file is gone or shorter than it should be.
    """
    return Column(
        tuple(
            np.asarray(np.memmap(file, dtype, "r", offset, (rows, width)))
            if rows
            else np.empty((0, width), dtype)
            for file, offset, rows in parts
        ),
        width,
    )
