"""The vote of a sample's nearest neighbours by embedding on its class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from indexer.schema import EMBEDDING

from .. import topk
from ..arrow import dense
from ..modes.representation import unit_or_zero

if TYPE_CHECKING:
    from indexer.store import Store


@dataclass(frozen=True)
class Votes:
    """Nearest neighbours of candidates by embedding.

    Attributes:
        rows: positions of the neighbours in the index, int64 [m, k], nearest first; -1 for none.
        weights: cosines cut off at 0, float32 [m, k].
        shares: weighted share of each class among them, float64 [m, C].
    """

    rows: np.ndarray
    weights: np.ndarray
    shares: np.ndarray


def neighbour_votes(
    store: "Store",
    rows: np.ndarray,
    ids: Sequence[str],
    labels: np.ndarray,
    classes: int,
    k: int,
) -> Votes:
    """Let the k nearest samples by embedding vote on the class of each candidate.

    Embeddings are streamed; memory holds the candidates' embeddings and one batch.

    Args:
        store: the index.
        rows: positions of the candidates in the index, int64 [m].
        ids: their ids.
        labels: labels of all samples, int [n].
        classes: C.
        k: voters.
    """
    queries = unit_or_zero(dense(store.take(ids, [EMBEDDING])[EMBEDDING]))
    best = np.full((len(rows), k), topk.ABSENT)
    start = 0
    for batch in store.scan([EMBEDDING]):
        block = unit_or_zero(dense(batch[EMBEDDING]))
        scores = queries @ block.T
        own = np.flatnonzero((rows >= start) & (rows < start + len(block)))
        scores[own, rows[own] - start] = np.nan
        best = topk.merge(best, topk.pack(scores, np.arange(start, start + len(block))))
        start += len(block)
    cosines, found = topk.unpack(topk.descending(best))
    weights = np.where(found < 0, 0, np.maximum(np.nan_to_num(cosines), 0))
    shares = np.zeros((len(rows), classes))
    np.add.at(shares, (np.arange(len(rows))[:, None], labels[np.maximum(found, 0)]), weights)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1e-12)
    return Votes(found, weights, shares)
