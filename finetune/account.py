"""What a repair fixed and what it broke, with intervals; pure counting on predictions.

Every figure comes in pairs: a number of fixed samples without the number of broken ones says
nothing. Intervals: Wilson (1927) for a share; for the difference of two accuracies on the same
samples the adjusted Wald interval of Bonett and Price (2012), and McNemar's exact test on the
samples that changed sides.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Z95 = 1.959963984540054
TRADED = 0.5
"""New reverse confusions per fixed sample from which a repair counts as a mere trade."""
WORTH = 0.2
"""Share of the mode's failures that has to be fixed for an edit to be called a repair of it."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassChange:
    """How one class fared: samples, and how many of them were fixed and broken."""

    label: int
    samples: int
    fixed: int
    broken: int


@dataclass(frozen=True)
class Account:
    """The held-out account of one edit.

    Attributes:
        mode_failures: held-out failures of the repaired mode.
        mode_fixed: how many of them are right now.
        fixed_share: mode_fixed / mode_failures, with Wilson's interval; None without failures.
        samples: all held-out samples.
        fixed: held-out samples that were wrong and are right.
        broken: held-out samples that were right and are wrong.
        accuracy_change: (fixed - broken) / samples as a share, Bonett and Price's interval.
        elsewhere_change: the same without the mode's failures, which can only gain: what the
            repair does to everything else.
        p_value: two-sided, of McNemar's exact test that fixed and broken are equally likely.
        reverse_before: samples of the mode's predicted class taken for its label, before.
        reverse_after: the same under the edit.
        classes: classes where anything changed.
    """

    mode_failures: int
    mode_fixed: int
    fixed_share: Interval | None
    samples: int
    fixed: int
    broken: int
    accuracy_change: Interval
    elsewhere_change: Interval
    p_value: float
    reverse_before: int
    reverse_after: int
    classes: tuple[ClassChange, ...]

    @property
    def trades(self) -> bool:
        """Whether the repair mostly turned a confusion into its reverse.

        A boundary that a repair puts right gains on one side more than it loses on the other: where
        accuracy rises beyond doubt, it is no mere trade.
        """
        gained = self.reverse_after - self.reverse_before
        traded = gained > 0 and gained >= TRADED * self.mode_fixed
        return traded and self.accuracy_change.low <= 0

    @property
    def verdict(self) -> str:
        """Say in a few words, after "it", what the edit does."""
        if self.mode_fixed == 0:
            return "does not repair"
        if self.trades:
            return "trades one confusion for its reverse"
        if self.fixed < self.broken:
            return "breaks more than it fixes"
        return "repairs" if self.mode_fixed >= WORTH * self.mode_failures else "hardly repairs"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "trades": self.trades, "verdict": self.verdict}


def account(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    mode: np.ndarray,
    pairs: Iterable[tuple[int, int]],
) -> Account:
    """Count what an edit did to n held-out samples.

    Args:
        labels: int64 [n].
        before: predictions as indexed, int64 [n].
        after: predictions under the edit, int64 [n].
        mode: bool [n], whether a sample is one of the mode's failures.
        pairs: the mode's confusions as (label, prediction); the reverse of one that is itself
            in the mode is no reverse confusion.
    """
    pairs = set(pairs)
    right, right_now = before == labels, after == labels
    fixed, broken = ~right & right_now, right & ~right_now
    reverse = {(prediction, label) for label, prediction in pairs} - pairs
    mode_failures, mode_fixed = int(mode.sum()), int((mode & fixed).sum())
    n_fixed, n_broken = int(fixed.sum()), int(broken.sum())
    return Account(
        mode_failures=mode_failures,
        mode_fixed=mode_fixed,
        fixed_share=wilson(mode_fixed, mode_failures) if mode_failures else None,
        samples=len(labels),
        fixed=n_fixed,
        broken=n_broken,
        accuracy_change=paired_difference(n_fixed, n_broken, len(labels)),
        elsewhere_change=paired_difference(
            n_fixed - mode_fixed, n_broken, len(labels) - mode_failures
        ),
        p_value=mcnemar(n_fixed, n_broken),
        reverse_before=_count_pairs(labels, before, reverse),
        reverse_after=_count_pairs(labels, after, reverse),
        classes=tuple(
            ClassChange(
                int(label),
                int((labels == label).sum()),
                int((fixed & (labels == label)).sum()),
                int((broken & (labels == label)).sum()),
            )
            for label in np.unique(labels[fixed | broken])
        ),
    )


def wilson(successes: int, trials: int) -> Interval:
    """Return a share with Wilson's 95 % score interval; at least one trial."""
    share, z2 = successes / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials)
    half *= math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def paired_difference(gained: int, lost: int, trials: int) -> Interval:
    """Return (gained - lost) / trials with Bonett and Price's 95 % interval for paired shares."""
    if trials == 0:
        return Interval(0.0, 0.0, 0.0)
    up, down = (gained + 1) / (trials + 2), (lost + 1) / (trials + 2)
    half = Z95 * math.sqrt(max(up + down - (up - down) ** 2, 0) / (trials + 2))
    value = (gained - lost) / trials
    return Interval(value, max(-1.0, up - down - half), min(1.0, up - down + half))


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value that gains and losses are equally likely."""
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def _count_pairs(labels: np.ndarray, predictions: np.ndarray, pairs: set[tuple[int, int]]) -> int:
    return sum(
        int(((labels == label) & (predictions == predicted)).sum()) for label, predicted in pairs
    )
