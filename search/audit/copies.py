"""What the model says of altered copies: a pair of every candidate, more of the likeliest."""

from collections.abc import Callable

import numpy as np

from .belief import Answers, believe, no_answers, suggest

ONE_IN = (1, 4, 12, 12)
"""For each pair of copies: one candidate in so many has it, the most suspicious by those before."""
WHETHER = 2
"""So many of the pairs say whether a label is wrong; the others only which one is right."""

Look = Callable[[np.ndarray, int], np.ndarray]
"""(positions among the candidates int64 [k], pair) -> logits float32 [2, k, C] of that pair of
copies, NaN for a copy that tells nothing; pairs are counted from 0 to `len(ONE_IN)` - 1."""


def look_closer(
    look: Look, logits: np.ndarray, shares: np.ndarray | None, given: np.ndarray
) -> Answers:
    """Return what copies of the candidates are taken for, NaN for copies not made.

    Labels that were learnt by heart are spread over many candidates, and one pair of copies tells
    most of them from the rest; the second decides the order of the most suspicious, the last two
    only which label is right.

    Args:
        look: shows copies to the model.
        logits: of the candidates as they are, float32 [m, C].
        shares: of the classes among the neighbours, float64 [m, C]; None without embeddings.
        given: labels, int64 [m].
    """
    answers = none = no_answers(logits)
    for pair, one_in in enumerate(ONE_IN):
        likeliest = np.sort(most_suspicious(answers, logits, shares, given, one_in))
        more = np.full((2, *logits.shape), np.nan, np.float32)
        more[:, likeliest] = look(likeliest, pair)
        group = (more, none.which) if pair < WHETHER else (none.whether, more)
        answers = answers.with_more(*group)
    return answers


def most_suspicious(
    answers: Answers,
    logits: np.ndarray,
    shares: np.ndarray | None,
    given: np.ndarray,
    one_in: int,
) -> np.ndarray:
    """Return one candidate in so many, rounded up, the most suspicious first: int64 [k]."""
    given_p, _ = suggest(believe(logits, shares, given, answers)[0], given)
    return np.argsort(given_p, kind="stable")[: -(-len(given) // one_in)]
