"""Filters that stand out in failures more often than elsewhere, and the modes they serve.

Whether a filter is salient is asked within each sample: next to the other filters it must be among
the most salient. Nearly all filters have larger gradients where the model is wrong, so that mean
profiles would name all of them.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..modes import ModeReport
from ..modes.evidence import FAILURES, stream_profiles
from ..predicates import Filter, to_sql
from ..words import percent
from .report import Finding
from .settings import FILTERS
from .significance import discoveries, more_often

if TYPE_CHECKING:
    from indexer.store import Store

SALIENT = 0.004
"""Share of the filters that counts as salient for a sample: the share that a repair updates."""
SERVED = 2.0
"""A filter serves a mode in which it is salient this many times as often as among all failures."""
LEAST = 3
"""Failures that a weak filter is salient for at least: in one or two, some filters always are."""
FALSE_DISCOVERY = 0.05
"""Share of the reported filters that may be chance (Benjamini and Hochberg 1995)."""
OTHERS = 10_000
"""Correct samples that failures are compared with; more are thinned out evenly."""
SHOWN = 5


def weak_filters(store: "Store", report: ModeReport, top: int) -> tuple[list[Finding], int]:
    """Rank filters by the share of failures for which they are among the most salient.

    Named are those that are so for a greater share of the failures than of the correct samples,
    by Fisher's exact test over all filters at a false discovery rate of `FALSE_DISCOVERY`, and
    than chance gives, and for `LEAST` failures. Reads the profiles once, in a stream.

    Args:
        store: the index.
        report: its modes.
        top: findings at most.

    Returns:
        one finding a filter, whose score is the share of failures, in 0..1; and how many there are.
    """
    layout = store.manifest.layout
    units = len(layout)
    salient = max(1, round(SALIENT * units))
    counts, strongest = _count(store, report, salient)
    total = counts.sum(0)
    failures = int(total.sum()) // salient
    if not failures:
        return [], 0
    elsewhere, others = _count_correct(store, salient)
    expected = salient / units
    p_values = more_often(total, failures, elsewhere, others)
    weak = (total / failures > expected) & (total >= LEAST)
    columns = np.flatnonzero(weak & discoveries(p_values, FALSE_DISCOVERY))
    sizes = np.array([mode.size for mode in report.modes])
    found = []
    for column in columns[np.argsort(-total[columns], kind="stable")][:top].tolist():
        share, rest = float(total[column] / failures), float(elsewhere[column] / max(others, 1))
        within = counts[:-1, column] / np.maximum(sizes, 1)
        order = np.argsort(-within, kind="stable")
        served = [int(m) for m in order if within[m] >= SERVED * share][:SHOWN]
        layer, index = layout.locate(column)
        modes = ", ".join(report.modes[m].id for m in served) or "no mode in particular"
        finding = Finding(
            kind=FILTERS,
            score=share,
            subject=layout.name(column),
            samples=strongest.of(column),
            reason=(
                f"{layout.name(column)} is among the {salient} most salient of {units} filters "
                f"for {percent(share, 1)} of the failures and {percent(rest, 1)} of the correct "
                f"samples, where chance gives {percent(expected, 1)}; it serves {modes}"
            ),
            evidence={
                "layer": layer.name,
                "filter": index,
                "share": share,
                "share_of_correct": rest,
                "expected": expected,
                "p_value": float(p_values[column]),
                "tests": units,
                "failures": int(total[column]),
                "modes": [{"id": report.modes[m].id, "share": float(within[m])} for m in served],
            },
        )
        found.append(finding)
    return found, len(columns)


def most_salient(magnitude: np.ndarray, salient: int) -> np.ndarray:
    """Return the columns of the largest |z| of each row [b, F], int64 [b, salient]."""
    return np.argpartition(magnitude, -salient, axis=1)[:, -salient:]


def _count(store: "Store", report: ModeReport, salient: int) -> tuple[np.ndarray, "_Strongest"]:
    """Count the failures of each mode, and of none, that each filter is salient for.

    Returns:
        counts int64 [M + 1, F], the last row for failures in no mode; and the strongest samples.
    """
    units = len(store.manifest.layout)
    mode_of = {sample: m for m, mode in enumerate(report.modes) for sample in mode.samples}
    counts = np.zeros((len(report.modes) + 1, units), np.int64)
    strongest = _Strongest(units)
    for ids, profiles in stream_profiles(store, FAILURES):
        magnitude = np.abs(profiles)
        chosen = most_salient(magnitude, salient)
        rows = np.array([mode_of.get(sample, len(report.modes)) for sample in ids])
        np.add.at(counts, (rows[:, None], chosen), 1)
        strongest.update(ids, magnitude, chosen)
    return counts, strongest


def _count_correct(store: "Store", salient: int) -> tuple[np.ndarray, int]:
    """Count the correct samples that each filter is salient for; int64 [F], and of how many."""
    where = to_sql([Filter("correct", "=", True)])
    every = max(1, -(-store.count(where) // OTHERS))
    counts, seen, read = np.zeros(len(store.manifest.layout), np.int64), 0, 0
    for _, profiles in stream_profiles(store, where):
        thinned = profiles[-read % every :: every]
        chosen = most_salient(np.abs(thinned), salient)
        counts += np.bincount(chosen.ravel(), minlength=len(counts))
        seen, read = seen + len(thinned), read + len(profiles)
    return counts, seen


class _Strongest:
    """The samples with the highest |z| of each filter, over a stream."""

    def __init__(self, units: int) -> None:
        self._values = np.full((SHOWN, units), -np.inf, np.float32)
        self._ids = np.full((SHOWN, units), "", object)

    def update(self, ids: list[str], magnitude: np.ndarray, chosen: np.ndarray) -> None:
        """Take in a batch [b, F], looking only at the filters salient for some sample of it."""
        columns = np.unique(chosen)
        values = np.concatenate([self._values[:, columns], magnitude[:, columns]])
        own = np.broadcast_to(np.array(ids, object)[:, None], (len(ids), len(columns)))
        names = np.concatenate([self._ids[:, columns], own])
        order = np.argsort(-values, axis=0, kind="stable")[:SHOWN]
        self._values[:, columns] = np.take_along_axis(values, order, 0)
        self._ids[:, columns] = np.take_along_axis(names, order, 0)

    def of(self, column: int) -> tuple[str, ...]:
        """Return up to `SHOWN` ids, highest |z| first."""
        return tuple(sample for sample in self._ids[:, column] if sample)
