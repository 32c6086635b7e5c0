"""What the model says of altered copies: a pair of every candidate, more of the likeliest."""

from collections.abc import Callable

import numpy as np

from .belief import believe, suggest

ONE_IN = (1, 4, 12, 12)
"""For each pair of copies: one candidate in so many has it, the most suspicious by those before."""

Look = Callable[[np.ndarray, int], np.ndarray]
"""(positions among the candidates int64 [k], pair) -> logits float32 [2, k, C] of that pair of
copies, NaN for a copy that tells nothing; pairs are counted from 0 to `len(ONE_IN)` - 1."""


def look_closer(
    look: Look, logits: np.ndarray, shares: np.ndarray | None, given: np.ndarray
) -> np.ndarray:
    """Return logits of copies of the candidates, float32 [2 len(ONE_IN), m, C], NaN if not made.

    Labels that were learnt by heart are spread over many candidates, and one pair of copies tells
    most of them from the rest; the second decides the order of the most suspicious, the last two
    only which label is right.

    Args:
        look: shows copies to the model.
        logits: of the candidates as they are, float32 [m, C].
        shares: of the classes among the neighbours, float64 [m, C]; None without embeddings.
        given: labels, int64 [m].
    """
    shown = np.empty((0, *logits.shape), np.float32)
    for pair, one_in in enumerate(ONE_IN):
        given_p, _ = suggest(believe(logits, shares, given, shown)[0], given)
        likeliest = np.sort(np.argsort(given_p, kind="stable")[: -(-len(given) // one_in)])
        more = np.full((2, *logits.shape), np.nan, np.float32)
        more[:, likeliest] = look(likeliest, pair)
        shown = np.concatenate([shown, more])
    return shown
