"""What a repair costs on guard samples, measured more finely than by counting.

Of some thousand guard samples a few dozen change sides under a repair, most of them by chance:
the count of the best of several candidates is that of the luckiest. Here a sample near the
decision boundary counts as something between right and wrong, which makes candidates comparable
by more than whole samples and still leaves out what does not matter for accuracy, such as a
hopeless sample becoming a little less so. What it foretells for other samples is no closer than a
count (benchmarks/repair.md): it ranks candidates, held-out samples judge them.
"""

import numpy as np

WIDTHS = 6.0
"""Widths of the soft boundary in the median distance of a sample from it: 1 is a smooth mean of
confidence, in which deep failures that stay failures count as gains, and 50 is a count."""


def boundary_width(logits: np.ndarray) -> float:
    """Return the width of the soft boundary for logits [n, C], in their units.

    It scales with the median difference of a sample's two largest logits, so that models of any
    confidence are measured alike.
    """
    highest = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    return max(float(np.median(highest[:, 1] - highest[:, 0])) / WIDTHS, 1e-12)


def soft_accuracy(logits: np.ndarray, labels: np.ndarray, width: float) -> float:
    """Return the mean of 1 / (1 + exp(-margin / width)), in [0, 1]; 0 for no samples.

    Args:
        logits: [n, C].
        labels: int64 [n]; the margin is the label's logit minus the largest other one.
        width: of the boundary; the accuracy itself as it goes to 0.
    """
    if len(labels) == 0:
        return 0.0
    rows = np.arange(len(labels))
    others = logits.astype(np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return float((0.5 + 0.5 * np.tanh((own - others.max(1)) / (2 * width))).mean())
