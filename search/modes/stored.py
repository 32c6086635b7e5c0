"""The `modes` table: one row a mode, and a last row for what is in none."""

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from indexer.errors import StoreError
from indexer.schema import MODES

from .report import MODE_SCHEMA, Mode, ModeReport
from .settings import ModeSettings

if TYPE_CHECKING:
    from indexer.store import Store

UNGROUPED_ROW = "ungrouped"
_SCHEMA = MODE_SCHEMA.append(pa.field("settings", pa.string())).append(
    pa.field("edited", pa.bool_())
)


def write_modes(store: "Store", report: ModeReport) -> None:
    """Put a report in place of the modes of an index, in one version of one table.

    Findings of an audit about modes that are no longer are deleted before, so that a crash in
    between leaves none of them.
    """
    from ..audit.outdated import changed_modes, drop_outdated  # the audit stands on the modes

    common = {"settings": json.dumps(report.settings.to_json()), "edited": report.edited}
    rest = {
        "id": UNGROUPED_ROW,
        "size": len(report.ungrouped),
        "samples": list(report.ungrouped),
    }
    rows = [mode.to_json() | common for mode in report.modes]
    with store.writer():
        if store.read_table(MODES) is not None:
            drop_outdated(store, changed_modes(read_modes(store), report))
        store.write_table(MODES, pa.Table.from_pylist([*rows, rest | common], schema=_SCHEMA))


def read_modes(store: "Store") -> ModeReport:
    """Return the modes that were found last.

    Raises:
        StoreError: none were ever looked for.
    """
    table = store.read_table(MODES)
    if table is None:
        raise StoreError(f"{store.path} has no modes yet: run `failsearch modes`")
    rows = table.to_pylist()
    modes = tuple(Mode.from_json(row) for row in rows if row["id"] != UNGROUPED_ROW)
    rest = next(row for row in rows if row["id"] == UNGROUPED_ROW)
    return ModeReport(
        modes,
        tuple(rest["samples"]),
        ModeSettings(**json.loads(rest["settings"])),
        # Modes that were stored before edits were noted have no such column.
        edited=bool(rest.get("edited")),
    )
