"""From groups of failures to modes that a person can read."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexer.filters import FilterLayout
from indexer.progress import Progress, Tracker, silent

from ..predicates import Filter, to_sql
from .evidence import FAILURES, Evidence, positions, stream_features, stream_profiles
from .exemplars import cohesion, diverse, typical_first
from .naming import describe_confusions, distinguish
from .report import Confusion, Mode, SharedFilter
from .representation import unit_or_zero
from .settings import ModeSettings

if TYPE_CHECKING:
    from indexer.store import Store

_CORRECT = Filter("correct", "=", True)
RISK_ROWS = 20_000
"""Correct samples that are looked at for being at risk: those of least margin. The gradients, and
with them the profiles, of confident ones are next to nothing and resemble one another."""


def describe(
    store: "Store",
    evidence: Evidence,
    groups: Sequence[np.ndarray],
    ids: Sequence[str],
    settings: ModeSettings,
    progress: Progress = silent,
) -> tuple[Mode, ...]:
    """Describe groups of failures.

    Args:
        store: the index, for the profiles of the members and of samples at risk.
        evidence: all failures.
        groups: rows of `evidence` of each mode, disjoint, none empty.
        ids: id of each mode.
        settings: exemplars, at_risk and filters are used.
        progress: shows how many failures and samples at risk were read.

    Returns:
        one mode a group, in the order given, with names that are unique among them.
    """
    if not groups:
        return ()
    groups = [rows[typical_first(*evidence.members(rows))] for rows in groups]
    close = _close_calls(store) if settings.at_risk else None
    correct = 0 if close is None else store.count(close)
    with progress("Describing modes", len(evidence.features) + correct, 0) as tracker:
        salience = mean_salience(store, evidence, groups, tracker)
        risky = at_risk(store, evidence, groups, close, settings.at_risk, tracker)
    layout = store.manifest.layout
    names: set[str] = set()
    modes = []
    for group, (mode_id, rows) in enumerate(zip(ids, groups, strict=True)):
        confusions = count_confusions(evidence.table.take(rows))
        filters = shared_filters(salience[group], layout, settings.filters)
        name = distinguish(describe_confusions(confusions), filters, names)
        names.add(name)
        members = evidence.features[rows]
        mode = Mode(
            id=mode_id,
            name=name,
            samples=tuple(evidence.ids[rows]),
            confusions=confusions,
            cohesion=cohesion(members),
            filters=filters,
            exemplars=tuple(evidence.ids[rows[diverse(members, settings.exemplars)]]),
            at_risk=risky[group],
        )
        modes.append(mode)
    return tuple(modes)


def count_confusions(table: pa.Table) -> tuple[Confusion, ...]:
    """Count the (label, prediction) pairs of a table with columns `LIGHT`, most frequent first."""
    columns = ("label", "prediction", "label_name", "prediction_name")
    counts = Counter(zip(*(table[name].to_pylist() for name in columns), strict=True))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Confusion(*pair, count=count) for pair, count in ordered)


def mean_salience(
    store: "Store", evidence: Evidence, groups: Sequence[np.ndarray], tracker: Tracker
) -> np.ndarray:
    """Return mean |z| over each group minus mean |z| over all failures, float64 [groups, F]."""
    group_of = np.full(len(evidence.features), -1)
    for group, rows in enumerate(groups):
        group_of[rows] = group
    position = positions(evidence.table)
    units = len(store.manifest.layout)
    sums, total = np.zeros((len(groups), units)), np.zeros(units)
    for ids, profiles in stream_profiles(store, FAILURES):
        magnitude = np.abs(profiles)
        total += magnitude.sum(0, dtype=np.float64)
        of_batch = group_of[[position[i] for i in ids]]
        for group in np.unique(of_batch[of_batch >= 0]):
            sums[group] += magnitude[of_batch == group].sum(0, dtype=np.float64)
        tracker.advance(len(ids))
    sizes = np.array([len(rows) for rows in groups])
    return sums / sizes[:, None] - total / len(evidence.features)


def shared_filters(
    salience: np.ndarray, layout: FilterLayout, count: int
) -> tuple[SharedFilter, ...]:
    """Return the filters of greatest positive salience, float [F], best first."""
    found = []
    for column in np.argsort(-salience, kind="stable")[:count]:
        if salience[column] > 0:
            layer, index = layout.locate(int(column))
            found.append(SharedFilter(layer.name, index, round(float(salience[column]), 4)))
    return tuple(found)


def at_risk(
    store: "Store",
    evidence: Evidence,
    groups: Sequence[np.ndarray],
    where: str | None,
    count: int,
    tracker: Tracker,
) -> list[tuple[str, ...]]:
    """Return the ids of the matching samples closest to each group's mean direction."""
    if where is None or evidence.space is None:
        return [() for _ in groups]
    features = evidence.features
    centres = unit_or_zero(np.stack([features[rows].sum(0) for rows in groups]))
    found: list[list[tuple[float, str]]] = [[] for _ in groups]
    for ids, block in stream_features(store, where, evidence.space):
        scores = block @ centres.T
        for group, column in enumerate(scores.T):
            best = np.argsort(-column, kind="stable")[:count]
            found[group] += [(-float(column[row]), ids[row]) for row in best]
            found[group] = sorted(found[group])[:count]
        tracker.advance(len(ids))
    return [tuple(sample for _, sample in group) for group in found]


def _close_calls(store: "Store") -> str | None:
    """Return the predicate of the `RISK_ROWS` correct samples of least margin; None without any."""
    margins = store.read(["margin"], to_sql([_CORRECT]))["margin"].to_numpy()
    if not len(margins):
        return None
    if len(margins) <= RISK_ROWS:
        return to_sql([_CORRECT])
    limit = float(np.partition(margins, RISK_ROWS - 1)[RISK_ROWS - 1])
    return to_sql([_CORRECT, Filter("margin", "<=", limit)])
