"""Filters that stand out across many failures, and the modes they serve."""

from typing import TYPE_CHECKING

import numpy as np

from ..modes import ModeReport
from ..modes.evidence import FAILURES, stream_profiles
from ..words import percent
from .report import Finding
from .settings import FILTERS

if TYPE_CHECKING:
    from indexer.store import Store

SALIENT = 0.004
"""Share of the filters that counts as salient for a sample: the share that a repair updates."""
SERVED = 2.0
"""A filter serves a mode in which it is salient this many times as often as among all failures."""
LEAST = 3
"""Failures that a weak filter is salient for at least: in one or two, some filters always are."""
SHOWN = 5


def weak_filters(store: "Store", report: ModeReport, top: int) -> tuple[list[Finding], int]:
    """Rank filters by the share of failures for which they are among the most salient.

    Reads the failures' profiles once, in a stream.

    Args:
        store: the index.
        report: its modes.
        top: findings at most.

    Returns:
        one finding a filter, whose score is the share of failures, in 0..1; and how many filters
        have a greater share than chance gives, and `LEAST` failures.
    """
    layout = store.manifest.layout
    units = len(layout)
    salient = max(1, round(SALIENT * units))
    counts, strongest = _count(store, report, salient)
    total = counts.sum(0)
    failures = total.sum() // salient
    if not failures:
        return [], 0
    expected = salient / units
    count = int(((total / failures > expected) & (total >= LEAST)).sum())
    sizes = np.array([mode.size for mode in report.modes])
    found = []
    for column in np.argsort(-total, kind="stable")[: min(top, count)]:
        share = float(total[column] / failures)
        within = counts[:-1, column] / np.maximum(sizes, 1)
        order = np.argsort(-within, kind="stable")
        served = [int(m) for m in order if within[m] >= SERVED * share][:SHOWN]
        layer, index = layout.locate(int(column))
        modes = ", ".join(report.modes[m].id for m in served) or "no mode in particular"
        finding = Finding(
            kind=FILTERS,
            score=share,
            subject=layout.name(int(column)),
            samples=strongest.of(int(column)),
            reason=(
                f"{layout.name(int(column))} is among the {salient} most salient of {units} "
                f"filters for {percent(share, 1)} of the failures, {share / expected:.0f}× as "
                f"often as chance; it serves {modes}"
            ),
            evidence={
                "layer": layer.name,
                "filter": index,
                "share": share,
                "expected": expected,
                "failures": int(total[column]),
                "modes": [{"id": report.modes[m].id, "share": float(within[m])} for m in served],
            },
        )
        found.append(finding)
    return found, count


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
        chosen = np.argpartition(-magnitude, salient - 1, axis=1)[:, :salient]
        rows = np.array([mode_of.get(sample, len(report.modes)) for sample in ids])
        np.add.at(counts, (rows[:, None], chosen), 1)
        strongest.update(ids, magnitude, chosen)
    return counts, strongest


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
