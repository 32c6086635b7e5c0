"""The `modes` table: one row a mode, and a last row for what is in none."""

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from indexer.errors import AbsentError
from indexer.schema import MODES

from ..outdated import drop_outdated
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
    common = {"settings": json.dumps(report.settings.to_json()), "edited": report.edited}
    rest = {
        "id": UNGROUPED_ROW,
        "size": len(report.ungrouped),
        "samples": list(report.ungrouped),
    }
    rows = [mode.to_json() | common for mode in report.modes]
    with store.writer():
        earlier = known_modes(store)
        if earlier is not None:
            drop_outdated(store, report.changed_since(earlier))
        store.write_table(MODES, pa.Table.from_pylist([*rows, rest | common], schema=_SCHEMA))


def read_modes(store: "Store") -> ModeReport:
    """Return the modes that were found last.

    Raises:
        AbsentError: none were ever looked for.
    """
    report = known_modes(store)
    if report is None:
        raise AbsentError(f"{store.path} has no modes yet: run `failsearch modes`")
    return report


def known_modes(store: "Store") -> ModeReport | None:
    """Return the modes that were found last; None where they were never looked for."""
    table = store.read_table(MODES)
    if table is None:
        return None
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
