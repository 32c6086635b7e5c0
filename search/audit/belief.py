"""Which label is right? The model, the neighbours, altered copies and usual mistakes together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SMOOTHING = 0.02
"""Share that a class without a neighbour is given, so that a vote rules nothing out."""
NEIGHBOUR_WEIGHT = 0.5
"""Weight of the neighbours' vote against the model, chosen on planted noise (benchmarks/audit)."""
SURE = 0.92
"""Probability of another class from which on a label counts as a sure mistake."""
CAUTION = 15.0
"""How much closer to chance mistakes are taken to be than they look: some are the model's own, and
what one round makes of them is counted in the next."""
ROUNDS = 3
"""How often mistakes are counted, each time under what the count before made likely. This and the
two above were chosen on planted noise (benchmarks/audit)."""


@dataclass(frozen=True)
class Mistakes:
    """Labels that another class than the given one surely belongs to, counted over the candidates.

    Attributes:
        counts: by right class and given label, sparse int64 [C, C], nothing on the diagonal.
        chance: pseudo-count that every pair of different classes has beside its count; infinite
            where nothing is known.
    """

    counts: "csr_array"
    chance: float


@dataclass(frozen=True, eq=False)
class Answers:
    """Further answers about the candidates: to altered copies, or of an altered model.

    Attributes:
        whether: logits float32 [a, m, C], NaN for those not asked: whether a label is wrong, and
            which one is right.
        which: logits float32 [b, m, C], likewise: only which one is right. To count these for the
            first as well made the order worse on planted noise (benchmarks/audit).
    """

    whether: np.ndarray
    which: np.ndarray

    @property
    def every(self) -> np.ndarray:
        """All answers, float32 [a + b, m, C]."""
        return np.concatenate([self.whether, self.which])

    def with_more(self, whether: np.ndarray, which: np.ndarray) -> "Answers":
        """Return these and further answers, [a', m, C] and [b', m, C]."""
        return Answers(np.concatenate([self.whether, whether]), np.concatenate([self.which, which]))


def no_answers(logits: np.ndarray) -> Answers:
    """Return the answers about candidates, by their logits [m, C], before anything was asked."""
    none = np.empty((0, *logits.shape), np.float32)
    return Answers(none, none)


def believe(
    logits: np.ndarray,
    shares: np.ndarray | None,
    given: np.ndarray,
    answers: Answers | None = None,
) -> tuple[np.ndarray, Mistakes]:
    """Return what the audit believes of candidates, float64 [m, C], and what mistakes are usual.

    A mistake that is usual makes more labels of its kind sure mistakes, so the two are learnt in
    turn, as in expectation maximization.

    Args:
        logits: float32 [m, C].
        shares: of the classes among the neighbours, float64 [m, C]; None without embeddings.
        given: labels, int64 [m].
        answers: further answers; those that only say which label is right share out among the
            other classes what the given one leaves them.
    """
    answers = answers or no_answers(logits)
    p = posterior(logits, shares, NEIGHBOUR_WEIGHT, answers.whether)
    mistakes = usual_mistakes(p, given)
    belief = reweigh(p, given, mistakes)
    for _ in range(ROUNDS - 1):
        mistakes = usual_mistakes(belief, given)
        belief = reweigh(p, given, mistakes)
    if len(answers.which):
        p = posterior(logits, shares, NEIGHBOUR_WEIGHT, answers.every)
        belief = share_out(belief, reweigh(p, given, mistakes), given)
    return belief, mistakes


def posterior(
    logits: np.ndarray,
    shares: np.ndarray | None,
    weight: float,
    copies: np.ndarray | None = None,
) -> np.ndarray:
    """Return the probability of each class for a sample, from model and neighbours.

    A product of experts: the model's softmax times the neighbours' vote to the power `weight`,
    the vote smoothed so that a class without a neighbour is not ruled out. With altered copies of
    the sample it is the geometric mean of that and of the model's softmax for every copy there is:
    a label that was learnt by heart holds for the image as it was, and less so for a shifted one.

    Args:
        logits: float32 [m, C].
        shares: share of each class among the neighbours, float64 [m, C]; None without embeddings.
        weight: of the neighbours.
        copies: logits of altered copies, float32 [a, m, C], NaN for those not made.

    Returns:
        float64 [m, C], rows sum to 1.
    """
    from scipy.special import log_softmax, softmax  # a third of a web server's start

    log_p = log_softmax(logits.astype(np.float64), axis=1)
    if shares is not None:
        log_p += weight * np.log((shares + SMOOTHING) / (1 + SMOOTHING * shares.shape[1]))
    if copies is not None:
        for copy in copies:
            log_p += np.nan_to_num(log_softmax(copy.astype(np.float64), axis=1))
        log_p /= 1 + np.isfinite(copies[..., :1]).sum(0)
    return softmax(log_p, axis=1)


def usual_mistakes(p: np.ndarray, given: np.ndarray) -> Mistakes:
    """Learn which class is labelled as which, from samples whose label is surely wrong.

    The chance of each wrong label, given the right class, has a symmetric Dirichlet prior; its
    strength is what makes the counts likeliest (empirical Bayes), times `CAUTION`. Labels that are
    wrong at random so come out as chance, and labels that confuse two classes do not.

    Args:
        p: probability of each class, float64 [m, C].
        given: labels, int64 [m].
    """
    from scipy.sparse import coo_array
    from scipy.special import gammaln

    classes = p.shape[1]
    likeliest = p.argmax(1)
    sure = np.flatnonzero((likeliest != given) & (p.max(1) > SURE))
    places = (likeliest[sure], given[sure])
    ones = np.ones(len(sure), np.int64)
    counts = coo_array((ones, places), shape=(classes, classes)).tocsr()
    if classes < 3 or not len(sure):
        return Mistakes(counts, np.inf)
    wrong, total = classes - 1, counts.sum(1)
    seen, times = np.unique(counts.data, return_counts=True)
    chances = np.geomspace(0.05, 200, 60)
    likelihood = [
        (gammaln(wrong * a) - gammaln(total + wrong * a)).sum()
        + (times * (gammaln(seen + a) - gammaln(a))).sum()
        for a in chances
    ]
    return Mistakes(counts, CAUTION * float(chances[int(np.argmax(likelihood))]))


def reweigh(p: np.ndarray, given: np.ndarray, mistakes: Mistakes) -> np.ndarray:
    """Return p with every class but the given one weighed by how usual that mistake is.

    Args:
        p: probability of each class, float64 [m, C].
        given: labels, int64 [m].
        mistakes: what is usual.

    Returns:
        float64 [m, C], rows sum to 1; p itself where nothing is known of mistakes.
    """
    if np.isinf(mistakes.chance):
        return p
    wrong = p.shape[1] - 1
    usual = mistakes.counts.T.tocsr()[given].toarray() + mistakes.chance
    usual *= wrong / (mistakes.counts.sum(1) + wrong * mistakes.chance)
    usual[np.arange(len(p)), given] = 1
    weighed = p * usual
    return weighed / weighed.sum(1, keepdims=True)


def share_out(p: np.ndarray, closer: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return p [m, C] with what it leaves to classes not given shared among them as in `closer`.

    Both have rows that sum to 1, and so has what is returned. Where `closer` leaves them nothing,
    p stays as it is.
    """
    rows = np.arange(len(p))
    other = np.ones(p.shape, bool)
    other[rows, given] = False
    left, total = ((q * other).sum(1, keepdims=True) for q in (p, closer))
    return np.where(other & (total > 0), closer * left / np.maximum(total, 1e-300), p)


def suggest(p: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (probability of the given label, likeliest other label) of each row of p [m, C]."""
    rows = np.arange(len(p))
    others = p.copy()
    others[rows, given] = -1
    return p[rows, given], others.argmax(1)
