"""The k-nearest-neighbour graph under the cosine: one blocked pass over half of all pairs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from indexer.errors import SettingError

from . import topk
from .column import Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCK = 1024
"""Rows a block."""

_FEW = 512
"""Rows that meet a block at once."""

Progress = Callable[[int, int], None]
"""Called with (pairs done, pairs in all)."""


@dataclass(frozen=True)
class NeighbourGraph:
    """The k nearest neighbours of each of n samples, never the sample itself.

    Attributes:
        ids: the samples, n unique ids.
        indices: positions in `ids`, int32 [n, k], best first; -1 where there is no neighbour
            (a zero vector has none, and fewer than k others may be left).
        scores: cosines, float32 [n, k], descending; NaN where there is no neighbour.
    """

    ids: tuple[str, ...]
    indices: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(set(self.ids)) != n:
            raise ValueError("the ids of a neighbour graph must be unique")
        if self.indices.shape != self.scores.shape or self.indices.shape[0] != n:
            raise ValueError(f"{n} ids, indices {self.indices.shape}, scores {self.scores.shape}")
        if self.indices.size and not -1 <= self.indices.min() <= self.indices.max() < n:
            raise ValueError(f"neighbour indices outside [-1, {n})")
        if (self.indices == np.arange(n)[:, None]).any():
            raise ValueError("a sample is listed as its own neighbour")
        if (np.diff(self.scores, axis=1) > 0).any():
            raise ValueError("neighbours must come best first")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def k(self) -> int:
        """Number of neighbours a sample."""
        return self.indices.shape[1]

    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return directed edges: (rows int64 [m], columns int64 [m], scores float32 [m])."""
        present = self.indices >= 0
        rows = np.broadcast_to(np.arange(len(self))[:, None], self.indices.shape)[present]
        return rows, self.indices[present].astype(np.int64), self.scores[present]

    def to_sparse(self, symmetric: Literal["union", "mutual"] | None = None) -> "csr_matrix":
        """Return the graph as a sparse matrix of cosines [n, n].

        Args:
            symmetric: None keeps the direction; "union" has an edge where either side lists the
                other, "mutual" where both do.
        """
        from scipy.sparse import csr_matrix

        rows, columns, scores = self.edges()
        there, back = rows * len(self) + columns, columns * len(self) + rows
        if symmetric == "mutual":
            kept = np.isin(there, back)
            rows, columns, scores = rows[kept], columns[kept], scores[kept]
        elif symmetric == "union":
            missing = ~np.isin(back, there)
            rows, columns = np.append(rows, columns[missing]), np.append(columns, rows[missing])
            scores = np.append(scores, scores[missing])
        return csr_matrix((scores, (rows, columns)), shape=(len(self), len(self)))


def knn_graph(
    vectors: np.ndarray | Rows,
    k: int,
    *,
    block: int = BLOCK,
    norms: np.ndarray | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest neighbours of every row among all others, by cosine.

    Each pair of blocks is multiplied once and serves both sides, so the work is half of a plain
    all-pairs product. Memory beyond `vectors` is two blocks of rows, where they are gathered or
    widened, and a few arrays of block x block and n x k.

    Args:
        vectors: float32 [n, F], of any scale, or rows of a column.
        k: neighbours a row, at least 1; reduced to n - 1 where there are fewer others.
        block: rows a block.
        norms: lengths of the rows [n], where they are known.
        progress: called after each pair of blocks.

    Returns:
        (indices int32 [n, k], scores float32 [n, k]), best first, ties by lower index; -1 and
        NaN where a row has no neighbour left: zero vectors have no cosine.

    Raises:
        SettingError: k or block below 1.
    """
    if k < 1 or block < 1:
        raise SettingError(f"k={k} and block={block} must be at least 1")
    n = len(vectors)
    keys = np.full((n, min(k, max(n - 1, 0))), topk.ABSENT)
    if keys.size:
        inverse = _inverse_norms(vectors, block) if norms is None else _inverse(norms)
        total, done = n * (n + 1) // 2, 0
        for start, other, left, right in _pairs(vectors, block):
            scores = left @ right.T
            a, b = scores.shape
            scores *= inverse[start : start + a, None]
            scores *= inverse[None, other : other + b]
            _merge_pair(keys, scores, start, other)
            done += a * (a + 1) // 2 if start == other else a * b
            if progress is not None:
                progress(done, total)
    scores, indices = topk.unpack(topk.descending(keys))
    return indices.astype(np.int32), np.clip(scores, -1, 1)


def _pairs(
    vectors: np.ndarray | Rows, block: int
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield (start, other start, rows, other rows) such that every pair of rows meets once.

    A block meets itself, then all rows behind it, a few at a time. Rows are valid until the next
    pair: those that are copied share two buffers.
    """
    n, few = len(vectors), min(block, _FEW)
    width = vectors.column.width if isinstance(vectors, Rows) else 0
    block_buffer, few_buffer = (
        np.empty((min(size, n), width), np.float32) for size in (block, few)
    )

    def read(start: int, size: int, buffer: np.ndarray) -> np.ndarray:
        rows = slice(start, min(start + size, n))
        if isinstance(vectors, Rows):
            return vectors.read(rows, buffer[: rows.stop - start])
        return np.asarray(vectors[rows], dtype=np.float32)

    for start in range(0, n, block):
        left = read(start, block, block_buffer)
        yield start, start, left, left
        for other in range(start + block, n, few):
            yield start, other, left, read(other, few, few_buffer)


def _inverse(norms: np.ndarray) -> np.ndarray:
    """Return 1 / norm as float32 [n]; NaN for zero."""
    return (1 / np.where(norms == 0, np.nan, norms)).astype(np.float32)


def _inverse_norms(vectors: np.ndarray | Rows, block: int) -> np.ndarray:
    norms = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), block):
        rows = np.asarray(vectors[start : start + block], dtype=np.float32)
        norms[start : start + block] = np.sqrt(np.vecdot(rows, rows))
    return _inverse(norms)


def _merge_pair(keys: np.ndarray, scores: np.ndarray, start: int, other: int) -> None:
    """Fold the scores [a, b] of one pair of blocks into the best keys of both, in place."""
    a, b = scores.shape
    if start == other:
        np.fill_diagonal(scores, np.nan)
    topk.merge_into(keys[start : start + a], scores, np.arange(other, other + b))
    if start != other:
        topk.merge_into(keys[other : other + b], scores.T, np.arange(start, start + a))
