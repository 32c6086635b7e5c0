"""Repairs as records of an index: one row of the `repairs` table, and a folder of files each.

The table keeps the report as JSON beside the affected samples, so that a listing reads no files.
Patch and model lie in `<db>/repairs/<id>/`. The row is written last: a repair that was killed
half-way leaves a folder without a record, and the next repair takes its place.

A repair outlives the mode that it was made for, and ids of modes are given again. So a record
keeps the name that the mode had, and its members are those of the affected samples that are
`in_group`: as long as a mode has these members, whatever its id and name, it is that mode.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from indexer.durability import disk_errors, sync_path, sync_tree
from indexer.errors import UnknownSampleError
from indexer.schema import REPAIRS
from indexer.store import Store
from search.modes import ModeReport, known_modes

SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("before", pa.int32()),
        pa.field("after", pa.int32()),
        pa.field("confidence_before", pa.float32()),
        pa.field("confidence_after", pa.float32()),
        pa.field("in_group", pa.bool_()),
        pa.field("split", pa.string()),  # discover, guard or held-out; null in the paper's repair
        pa.field("change", pa.string()),  # fixed, broken, still wrong, still right
    ]
)

REPAIRS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("created", pa.string()),
        pa.field("report", pa.string()),  # JSON, as `failsearch repair --json` prints it
        pa.field("samples", pa.list_(pa.struct(list(SAMPLE_SCHEMA)))),
    ]
)


def next_repair(store: Store) -> tuple[str, Path]:
    """Return the id of the next repair and an empty folder for its files."""
    table = store.read_table(REPAIRS)
    ids = [] if table is None else table["id"].to_pylist()
    count = max((int(one[1:]) for one in ids), default=0)
    repair_id = f"r{count + 1}"
    folder = store.path.absolute() / REPAIRS / repair_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return repair_id, folder


def record_repair(store: Store, document: dict[str, Any], samples: pa.Table) -> None:
    """Append a finished repair: its JSON report and its affected samples, after its files."""
    with disk_errors(store.path):
        sync_tree(store.path / REPAIRS / document["id"])
        sync_path(store.path)
    row = {
        "id": document["id"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "report": json.dumps(document),
        "samples": samples.to_pylist(),
    }
    store.append_table(REPAIRS, pa.Table.from_pylist([row], schema=REPAIRS_SCHEMA))


def list_repairs(store: Store) -> list[dict[str, Any]]:
    """Return the reports of all repairs of an index, oldest first, as of `describe_today`."""
    modes = known_modes(store)
    return [describe_today(report, group, modes) for report, group in recorded(store)]


def recorded(store: Store) -> list[tuple[dict[str, Any], frozenset[str]]]:
    """Return all repairs, oldest first: report with `created`, and the samples it was made for."""
    table = store.read_table(REPAIRS)
    return [] if table is None else [_record(store, table, row) for row in range(len(table))]


def describe_today(
    report: dict[str, Any], group: frozenset[str], modes: ModeReport | None
) -> dict[str, Any]:
    """Return a report with what it was made for, as that stands today.

    Args:
        report: of a record.
        group: the samples that it was made for.
        modes: of today, where they were looked for.

    Returns:
        The report with `mode`, the id of the mode of today that has exactly these members, None
        where there is none or a sample was repaired; and `title`: the name of this mode; else the
        name at the time of the repair, or the bare id where an older record has no name.
    """
    same = None
    if report["kind"] == "mode" and modes is not None:
        candidates = (mode for mode in modes.modes if mode.size == len(group))
        same = next((mode for mode in candidates if group.issuperset(mode.samples)), None)
    title = same.name if same else report.get("target_name", report["target"])
    return {**report, "mode": same.id if same else None, "title": title}


def read_repair(store: Store, repair_id: str) -> tuple[dict[str, Any], pa.Table]:
    """Return one report, as of `describe_today`, and its affected samples.

    Raises:
        UnknownSampleError: no such repair; lists some that there are.
    """
    table = store.read_table(REPAIRS)
    ids = [] if table is None else table["id"].to_pylist()
    if table is None or repair_id not in ids:
        known = ", ".join(ids[-5:]) or "none; run `failsearch repair`"
        more = "… " if len(ids) > 5 else ""
        raise UnknownSampleError(
            f"no repair {repair_id!r} in {store.path} (there are {more}{known})"
        )
    row = ids.index(repair_id)
    samples = pa.Table.from_pylist(table["samples"][row].as_py(), schema=SAMPLE_SCHEMA)
    return describe_today(*_record(store, table, row), known_modes(store)), samples


def _record(store: Store, table: pa.Table, row: int) -> tuple[dict[str, Any], frozenset[str]]:
    report = json.loads(table["report"][row].as_py())
    files = {name: _where(store, report["id"], report.get(name)) for name in ("patch", "model")}
    affected = table["samples"][row].values
    group = affected.field("id").filter(affected.field("in_group"))
    made = {"created": table["created"][row].as_py()}
    return {**report, **files, **made}, frozenset(group.to_pylist())


def _where(store: Store, repair_id: str, written: str | None) -> str | None:
    """Return where a file of a repair is now; an index may have moved since the repair."""
    folder = f"/{REPAIRS}/{repair_id}/"
    if written is None or folder not in written:
        return written
    here = store.path.absolute() / REPAIRS / repair_id / written.rpartition(folder)[2]
    return str(here) if here.exists() else written
