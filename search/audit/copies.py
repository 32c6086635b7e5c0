"""What the model says of altered copies: a pair of every candidate, another of the likeliest."""

from collections.abc import Callable

import numpy as np

from .belief import believe, suggest

SECOND_LOOK = 4
"""One candidate in so many, the most suspicious after the first pair of copies, has the second."""

Look = Callable[[np.ndarray, int], np.ndarray]
"""(positions among the candidates int64 [k], pair 0 or 1) -> logits float32 [2, k, C] of that pair
of copies, NaN for a copy that tells nothing."""


def look_twice(
    look: Look, logits: np.ndarray, shares: np.ndarray | None, given: np.ndarray
) -> np.ndarray:
    """Return logits of copies of the candidates, float32 [4, m, C], NaN for those not made.

    Labels that were learnt by heart are spread over many candidates, and one pair of copies tells
    most of them from the rest; the second pair only decides the order of the most suspicious.

    Args:
        look: shows copies to the model.
        logits: of the candidates as they are, float32 [m, C].
        shares: of the classes among the neighbours, float64 [m, C]; None without embeddings.
        given: labels, int64 [m].
    """
    first = look(np.arange(len(given)), 0)
    given_p, _ = suggest(believe(logits, shares, given, first)[0], given)
    likeliest = np.argsort(given_p, kind="stable")[: -(-len(given) // SECOND_LOOK)]
    second = np.full_like(first, np.nan)
    second[:, likeliest] = look(likeliest, 1)
    return np.concatenate([first, second])
