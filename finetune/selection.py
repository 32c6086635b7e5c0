"""Which filters a repair may touch: pure functions from scores to columns of a profile.

Columns are int64, ascending and unique; F is the length of a profile. The paper (section 3.3)
updates the 0.4 % of the filters with the highest standardized saliency and compares them with as
many random and least salient ones.
"""

from dataclasses import dataclass

import numpy as np

from indexer.errors import SettingError
from indexer.filters import FilterLayout

SELECTIONS = ("salient", "contrastive", "gradient", "random", "least", "last", "all")
"""Names a repair accepts; "last" stands for the classifier's weight and has no columns."""


@dataclass(frozen=True)
class FilterEvidence:
    """What the profiles say about a group of failures.

    Attributes:
        failures: f64 [F], mean standardized profile of the failures to repair.
        needed: f64 [F], mean standardized profile of correct samples of the classes concerned.
        gradient: f64 [F], mean |d loss / d weight| of the failures' *mean* loss, or None where no
            selection asked for it. Unlike a profile, opposing gradients of samples cancel in it.
    """

    failures: np.ndarray
    needed: np.ndarray
    gradient: np.ndarray | None = None


def filter_count(fraction: float, units: int) -> int:
    """Return how many of `units` filters a fraction stands for, at least one."""
    if not 0 < fraction <= 1:
        raise SettingError(f"fraction {fraction} is not in (0, 1]")
    return max(1, round(fraction * units))


def ranking(name: str, evidence: FilterEvidence, seed: int = 0) -> np.ndarray:
    """Return all columns in the order in which a named selection would take them, int64 [F].

    Args:
        name: one of `SELECTIONS` except "last".
        evidence: mean profiles of the failures and of what correct samples need.
        seed: for "random".

    Raises:
        SettingError: no such selection, or "gradient" without gradients.
    """
    units = len(evidence.failures)
    if name == "random":
        return np.random.default_rng(seed).permutation(units)
    if name == "gradient" and evidence.gradient is None:
        raise SettingError("selection 'gradient' needs the gradient of the failures' loss")
    scores = {
        "salient": evidence.failures,
        "contrastive": evidence.failures - evidence.needed,
        "gradient": evidence.gradient,
        "least": -evidence.failures,
        "all": np.zeros(units),
    }
    if name not in scores:
        raise SettingError(f"no selection {name!r}: choose one of {', '.join(SELECTIONS)}")
    return np.argsort(-np.asarray(scores[name]), kind="stable")


def select(name: str, evidence: FilterEvidence, count: int, seed: int = 0) -> np.ndarray:
    """Return the first `count` columns of a ranking, ascending; "all" ignores the count."""
    columns = ranking(name, evidence, seed)
    return np.sort(columns if name == "all" else columns[:count])


def within_weights(columns: np.ndarray, layout: FilterLayout, budget: int) -> np.ndarray:
    """Return the columns of a ranking that fit into a budget of weights.

    Filters are taken in order; one that would exceed the budget is passed over. Selections of one
    budget are then comparable, whether they prefer small filters or large ones.

    Args:
        columns: int64, in the order of preference.
        layout: says how many weights a filter has.
        budget: number of scalar weights.
    """
    taken, used = [], 0
    for column in columns:
        layer, _ = layout.locate(int(column))
        if used + layer.fan <= budget:
            taken.append(column)
            used += layer.fan
    if not taken:
        raise SettingError(f"no filter has as few as {budget} weights: allow a larger share")
    return np.array(taken, np.int64)
