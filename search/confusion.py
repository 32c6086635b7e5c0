"""How often each class is taken for each other one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from .arrow import numbers

SHOWN_CLASSES = 24
"""A matrix of more classes than this is cut to the most confused ones."""
SHADES = 10
"""Steps of colour, each a class of the style sheet: pages have no styles of their own."""


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Counts of samples by label and prediction.

    Attributes:
        counts: int64 [C, C], labels in rows, predictions in columns.
        classes: C class names.
    """

    counts: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.classes),) * 2:
            raise ValueError(f"counts {self.counts.shape} of {len(self.classes)} classes")

    @classmethod
    def of(cls, samples: pa.Table, classes: Sequence[str]) -> "ConfusionMatrix":
        """Count the samples of a table by its columns `label` and `prediction`."""
        label, prediction = (numbers(samples[name], np.int32) for name in ("label", "prediction"))
        counts = np.zeros((len(classes),) * 2, np.int64)
        np.add.at(counts, (label, prediction), 1)
        return cls(counts, tuple(classes))

    @property
    def failures(self) -> int:
        """Number of misclassified samples."""
        return int(self.counts.sum() - self.counts.trace())

    def summary(self) -> dict[str, Any]:
        """Return the numbers of samples, failures and classes, and the accuracy in 0..1."""
        samples = int(self.counts.sum())
        return {
            "samples": samples,
            "failures": self.failures,
            "accuracy": float(self.counts.trace() / max(1, samples)),
            "classes": len(self.classes),
        }

    def pairs(self) -> list[dict[str, Any]]:
        """Return the confused pairs {label, prediction, count}, most frequent first."""
        counts = self._confused()
        label, prediction = np.nonzero(counts)
        order = np.argsort(-counts[label, prediction], kind="stable")
        return [
            {
                "label": self.classes[label[i]],
                "prediction": self.classes[prediction[i]],
                "count": int(counts[label[i], prediction[i]]),
            }
            for i in order
        ]

    def worst_classes(self) -> list[dict[str, Any]]:
        """Return the classes that occur {name, samples, failures, accuracy}, worst first."""
        totals = self.counts.sum(1)
        failed = totals - self.counts.diagonal()
        share = failed / np.maximum(totals, 1)
        return [
            {
                "name": self.classes[c],
                "samples": int(totals[c]),
                "failures": int(failed[c]),
                "accuracy": float(1 - share[c]),
            }
            for c in np.argsort(-share, kind="stable")
            if totals[c]
        ]

    def drawn(self) -> dict[str, Any]:
        """Return the matrix as it is drawn, of at most `SHOWN_CLASSES` classes.

        Returns:
            {names, rows, cut}: rows {name, cells}, cells {prediction, count, hit, shade}, where a
            shade is 0 for none to `SHADES` for the most frequent confusion, and `cut` is whether
            classes were left out.
        """
        off = self._confused()
        involved = off.sum(0) + off.sum(1)
        chosen = np.sort(np.argsort(-involved, kind="stable")[:SHOWN_CLASSES])
        largest = max(1, int(off[np.ix_(chosen, chosen)].max(initial=0)))
        rows = [
            {
                "name": self.classes[a],
                "cells": [
                    {
                        "prediction": self.classes[b],
                        "count": int(self.counts[a, b]),
                        "hit": bool(a == b),
                        "shade": round(SHADES * int(off[a, b]) / largest),
                    }
                    for b in chosen
                ],
            }
            for a in chosen
        ]
        names = [self.classes[c] for c in chosen]
        return {"names": names, "rows": rows, "cut": len(self.classes) > len(chosen)}

    def _confused(self) -> np.ndarray:
        """Return the counts without those of the diagonal."""
        return self.counts - np.diag(self.counts.diagonal())
