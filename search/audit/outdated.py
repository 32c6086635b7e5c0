"""Findings about modes that are no longer: they go when modes are found anew or regrouped.

Ids of modes are given again, so that a finding about an earlier m3 would be shown as one about the
m3 of today.
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from indexer.schema import FINDINGS

from ..modes import ModeReport
from .report import AuditReport
from .settings import CAUSES, FILTERS

if TYPE_CHECKING:
    from indexer.store import Store


def changed_modes(before: ModeReport, after: ModeReport) -> set[str]:
    """Return the ids that stand for other images than before, or for none; names do not matter."""
    groups = [{(mode.id, frozenset(mode.samples)) for mode in one.modes} for one in (before, after)]
    return {mode for mode, _ in groups[0] ^ groups[1]}


def without_outdated(report: AuditReport, changed: set[str]) -> AuditReport:
    """Return a report without the findings that spoke of modes that have changed."""
    kept = (f for f in report.findings if not _is_outdated(f.kind, f.subject, changed))
    return AuditReport(tuple(kept), report.kinds)


def drop_outdated(store: "Store", changed: set[str]) -> None:
    """Delete stored findings that speak of modes that are about to change, under the lock."""
    with store.writer():
        table = store.read_table(FINDINGS)
        if table is None:
            return
        subjects = zip(table["kind"].to_pylist(), table["subject"].to_pylist(), strict=True)
        kept = [not _is_outdated(kind, subject, changed) for kind, subject in subjects]
        if not all(kept):
            store.write_table(FINDINGS, table.filter(pa.array(kept, pa.bool_())))


def _is_outdated(kind: str, subject: str, changed: set[str]) -> bool:
    # Which modes a filter serves is said of all modes together, a cause of one.
    return (kind == FILTERS and bool(changed)) or (kind == CAUSES and subject in changed)
