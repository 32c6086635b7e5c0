"""A method with the settings that it may have: all are tried for choosing, one is judged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .problems import Problem

Slices = list[np.ndarray]
Method = Callable[[Problem, int], Slices]
Settings = dict[str, Any]
Values = dict[str, tuple[Any, ...]]
"""Settings and the values that are tried of each."""


@dataclass(frozen=True)
class Family:
    """One method in all its settings, which share what is costly.

    Attributes:
        fit: (problem, budget, settings of `fitted`) -> what `cut` starts from.
        cut: (problem, fit, budget, settings of `cuts`) -> slices.
        fitted: values tried of the settings of `fit`.
        cuts: values tried of the settings of `cut`.
        chosen: the settings that are judged.
    """

    fit: Callable[..., Any]
    cut: Callable[..., Slices]
    fitted: Values
    cuts: Values
    chosen: Settings

    def __call__(self, problem: Problem, budget: int) -> Slices:
        """Return the slices under the chosen settings."""
        outer = {name: self.chosen[name] for name in self.fitted}
        inner = {name: self.chosen[name] for name in self.cuts}
        return self.cut(problem, self.fit(problem, budget, **outer), budget, **inner)

    def every(self, problem: Problem, budget: int) -> Iterator[tuple[Settings, Slices]]:
        """Yield all settings, the slices under each."""
        for outer in combinations(self.fitted):
            start = self.fit(problem, budget, **outer)
            for inner in combinations(self.cuts):
                yield outer | inner, self.cut(problem, start, budget, **inner)


def combinations(values: Values) -> list[Settings]:
    """Return every choice of one value for each setting."""
    return [dict(zip(values, choice, strict=True)) for choice in product(*values.values())]
