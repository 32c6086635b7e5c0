"""The change of accuracy under a small edit, from the few samples that it can flip.

One step on a few filters flips some dozen predictions in ten thousand, nearly all of them next to
the decision boundary. The samples nearest to it are all scored; the others by a random draw, each
member of which stands for several (Horvitz and Thompson 1952). The estimate is unbiased whatever
flips, and where nothing flips far from the boundary it is the change itself.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class BoundaryDraw:
    """Samples to score, and how many each stands for.

    Attributes:
        rows: int64 [n], ascending.
        weights: float64 [n], at least 1; they add up to the number of all samples.
    """

    rows: np.ndarray
    weights: np.ndarray

    def change(self, before: np.ndarray, after: np.ndarray) -> float:
        """Return the estimated change of accuracy over all samples, as a share.

        Args:
            before: bool [n], whether each of `rows` was right.
            after: bool [n], whether it is right now.
        """
        difference = after.astype(np.float64) - before
        return float((self.weights * difference).sum() / self.weights.sum())


def draw_near_boundary(logits: np.ndarray, nearest: int, drawn: int, seed: int) -> BoundaryDraw:
    """Return the samples nearest to the decision boundary and a random draw of the others.

    Args:
        logits: [N, C] of all samples; the distance is the difference of the two largest.
        nearest: how many are taken for certain.
        drawn: how many of the rest are drawn.
        seed: of the draw.
    """
    highest = np.partition(logits, -2, axis=1)[:, -2:]
    order = np.argsort(highest[:, 1] - highest[:, 0], kind="stable")
    certain, rest = order[:nearest], order[nearest:]
    drawn = min(drawn, len(rest))
    chance = np.random.default_rng(seed).choice(rest, drawn, replace=False)
    rows = np.concatenate([certain, chance])
    weights = np.ones(len(rows))
    weights[len(certain) :] = len(rest) / max(drawn, 1)
    ascending = np.argsort(rows)
    return BoundaryDraw(rows[ascending], weights[ascending])
