"""Stored findings that speak of failure modes: they go when those modes are regrouped.

Ids of modes are given again, so that a finding about an earlier m3 would be shown as one about the
m3 of today. This lies below both modes and audit: whoever stores modes drops such findings, and
an audit leaves them out.
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from indexer.schema import FINDINGS

if TYPE_CHECKING:
    from indexer.store import Store

CAUSES = "causes"
FILTERS = "filters"
"""The kinds of finding that speak of modes."""


def is_outdated(kind: str, subject: str, changed: set[str]) -> bool:
    """Return whether a finding speaks of one of the modes that have changed."""
    # Which modes a filter serves is said of all modes together, a cause of one.
    return (kind == FILTERS and bool(changed)) or (kind == CAUSES and subject in changed)


def drop_outdated(store: "Store", changed: set[str]) -> None:
    """Delete stored findings that speak of modes that are about to change, under the lock."""
    with store.writer():
        table = store.read_table(FINDINGS)
        if table is None:
            return
        subjects = zip(table["kind"].to_pylist(), table["subject"].to_pylist(), strict=True)
        kept = [not is_outdated(kind, subject, changed) for kind, subject in subjects]
        if not all(kept):
            store.write_table(FINDINGS, table.filter(pa.array(kept, pa.bool_())))
