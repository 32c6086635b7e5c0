"""What a copy of the model says of the suspects once it has forgotten their labels.

A model that was trained on a wrong label repeats it; a copy that goes on to learn from all other
samples, and not from this one, forgets the label and keeps what it knows of images.
"""

from collections.abc import Callable

import numpy as np

from .belief import Answers
from .copies import ONE_IN, WHETHER, most_suspicious

SUSPECTS = ONE_IN[WHETHER - 1]
"""One candidate in so many is forgotten and asked about: those with all copies that say whether."""
CLOSELY = ONE_IN[-1]
"""One in so many is asked about with all copies."""

Forget = Callable[[np.ndarray, int, bool], "np.ndarray | None"]
"""(positions of the suspects among the candidates, most suspicious first, int64 [k]; how many of
the first are asked about with all copies; whether mirrored images mean what they meant before) ->
logits float32 [1 + 2 `len(ONE_IN)`, k, C] of a copy of the model that was trained on all samples
but these: for them as they are, then for their copies, NaN where not asked. None if the copy came
to nothing."""


def ask_after_forgetting(
    forget: Forget,
    answers: Answers,
    logits: np.ndarray,
    shares: np.ndarray | None,
    given: np.ndarray,
) -> np.ndarray | None:
    """Return what a copy of the model says that forgot the most suspicious candidates.

    Args:
        forget: trains the copy and asks it.
        answers: about the candidates, as of `look_closer`.
        logits: of the candidates as they are, float32 [m, C].
        shares: of the classes among the neighbours, float64 [m, C]; None without embeddings.
        given: labels, int64 [m].

    Returns:
        float32 [1 + 2 `len(ONE_IN)`, m, C], NaN where not asked; None if the copy came to nothing.
    """
    if not len(given):
        return None
    suspects = most_suspicious(answers, logits, shares, given, SUSPECTS)
    mirror = bool(np.isfinite(answers.whether[1::2]).any())
    said = forget(suspects, -(-len(given) // CLOSELY), mirror)
    if said is None:
        return None
    of_all = np.full((len(said), *logits.shape), np.nan, np.float32)
    of_all[:, suspects] = said
    return of_all


def with_forgotten(answers: Answers, said: np.ndarray | None) -> Answers:
    """Return answers together with those of `ask_after_forgetting`, if there are any.

    What the copy says of images as they are and of their first copies counts for whether a label
    is wrong, as these copies do otherwise; the rest only for which one is right.
    """
    if said is None:
        return answers
    whether = 1 + 2 * WHETHER
    return answers.with_more(said[:whether], said[whether:])
