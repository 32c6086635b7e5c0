"""Which of many differences are more than chance."""

from typing import Any

import numpy as np


def discoveries(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Return which hypotheses are rejected at a false discovery rate (Benjamini, Hochberg).

    Args:
        p_values: float [n], of all hypotheses that were looked at.
        rate: share of the rejected ones that may be true.

    Returns:
        bool [n].
    """
    from scipy.stats import false_discovery_control  # slow to import

    return false_discovery_control(p_values) <= rate if len(p_values) else np.zeros(0, bool)


def more_often(hits: np.ndarray, size: int, others: np.ndarray, rest: int) -> np.ndarray:
    """Return p-values of Fisher's exact test, one-sided: that more hits in a group are chance.

    It holds for groups of any size, and whatever the distribution behind the hits.

    Args:
        hits: int [F], members of the group that have each of F properties.
        size: members of the group.
        others: int [F], the same of those outside it.
        rest: how many are outside it.

    Returns:
        float64 [F].
    """
    from scipy import stats

    law: Any = stats.hypergeom
    return law.sf(hits - 1, size + rest, hits + others, size)
