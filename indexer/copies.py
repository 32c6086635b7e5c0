"""Arrow copies of small tables, so that reading them takes a millisecond and no lancedb.

A copy lies in the cache of the database and is named after the manifest of the version that it
holds, so a newer version, or a table made anew, never meets it. Copies can be removed at any time;
where they cannot be written, everything works without them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from .durability import write_derived
from .versions import newest_manifest, table_folder, version_key

CACHE_FOLDER = "cache"
FOLDER = Path(CACHE_FOLDER, "tables")


def read_through_copy(database: Path, name: str, read: Callable[[], pa.Table]) -> pa.Table | None:
    """Return the newest version of a table; None where it has none.

    Args:
        database: folder.
        name: of the table.
        read: asks the database, where there is no copy yet; its answer is kept.
    """
    path = _copy_path(database, name)
    if path is None:
        return None
    table = _read(path)
    if table is None:
        table = read()
        if _copy_path(database, name) == path:  # else it may be of a version written meanwhile
            _write(path, table)
    return table


def _copy_path(database: Path, name: str) -> Path | None:
    manifest = newest_manifest(table_folder(database, name))
    if manifest is None:
        return None
    return database / FOLDER / f"{name}-{version_key(manifest)}.arrow"


def _read(path: Path) -> pa.Table | None:
    try:
        return pa.ipc.open_file(path.read_bytes()).read_all()
    except (pa.ArrowException, OSError):
        return None  # not there yet, or damaged: made again


def _write(path: Path, table: pa.Table) -> None:
    """Put a copy in place of those of older versions."""

    def fill(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    if write_derived(path, fill):
        name = path.name.rsplit("-", 2)[0]
        for other in path.parent.glob(f"{name}-*.arrow"):
            if other != path:
                other.unlink(missing_ok=True)
