"""A large index to look at: made samples with the pictures, findings and repairs of a real one.

Modes are found anew among the made failures. A finding or repair of a real sample becomes one of
the first made sample that it is the base of.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune.records import REPAIRS_SCHEMA
from indexer.errors import AbsentError
from indexer.schema import ID, REPAIRS
from indexer.store import Store
from search.audit.report import read_findings, write_findings
from search.modes import find_modes
from search.snapshot import snapshot

from .made_profiles import made_store


def make_web_index(source: Store, path: Path, rows: int) -> Store:
    """Write an index of `rows` samples, with everything that a page shows, and return it."""
    store = made_store(source, path, rows, len(source.manifest.layout), pictures=True)
    # The n-th made sample below len(source) has the n-th real one as its base.
    ids = source.read([ID])[ID].to_pylist()
    made = {name: f"m{number}" for number, name in enumerate(ids)}
    find_modes(store)
    _copy_findings(source, store, made)
    _copy_repairs(source, store, made)
    _ = snapshot(store).norms  # as `failsearch index` leaves them
    return store


def _copy_findings(source: Store, store: Store, made: dict[str, str]) -> None:
    try:
        report = read_findings(source)
    except AbsentError:
        return
    found = tuple(
        replace(
            one,
            subject=made.get(one.subject, one.subject),
            samples=tuple(made[name] for name in one.samples),
        )
        for one in report.findings
    )
    write_findings(store, replace(report, findings=found))


def _copy_repairs(source: Store, store: Store, made: dict[str, str]) -> None:
    table = source.read_table(REPAIRS)
    if table is None:
        return
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row["samples"] = [{**one, "id": made[one["id"]]} for one in row["samples"]]
        report = json.loads(row["report"])
        row["report"] = json.dumps({**report, "patch": None, "model": None})
    store.write_table(REPAIRS, pa.Table.from_pylist(rows, schema=REPAIRS_SCHEMA))
