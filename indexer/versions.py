"""Versions of a Lance table as its folder shows them, and which of them are known to be durable.

A version is one manifest file in `<table>.lance/_versions`, named 2**64 - 1 - version so that the
newest sorts first. Reading names costs microseconds, importing lancedb a second. A version counts
as *acknowledged* once all its files were synced; only versions after that can be torn by a power
cut, so only those need a look when a database is opened.
"""

import hashlib
import json
import os
from pathlib import Path

from .durability import TEMPORARY, replace_file, sync_path

ACKNOWLEDGED_FILE = "acknowledged.json"
SET_ASIDE_FOLDER = "set_aside"
_HIGHEST = 2**64 - 1


def table_folder(database: Path, name: str) -> Path:
    """Return the folder of a table."""
    return database / f"{name}.lance"


def table_names(database: Path) -> list[str]:
    """Return the names of all tables with at least one version, sorted."""
    folders = sorted(database.glob("*.lance"))
    return [folder.stem for folder in folders if newest_version(folder)]


def newest_version(table: Path) -> int:
    """Return the number of the newest version of a table folder; 0 where there is none."""
    return max((version_number(path) for path in table.glob("_versions/*.manifest")), default=0)


def newest_manifest(table: Path) -> Path | None:
    """Return the manifest of the newest version of a table folder; None where there is none."""
    newest = max(table.glob("_versions/*.manifest"), key=version_number, default=None)
    return newest if newest is not None and version_number(newest) else None


def version_key(manifest: Path) -> str:
    """Return "<version>-<digest>" of a version's manifest file.

    The digest keeps a table that was made anew under the same number apart from its forerunner.
    """
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    return f"{version_number(manifest)}-{digest}"


def set_aside(table: Path, version: int) -> Path:
    """Move a version's manifest out of the table, so that the one before it is the newest.

    Returns:
        Where the manifest lies now.
    """
    folder = table.parent / SET_ASIDE_FOLDER
    folder.mkdir(exist_ok=True)
    target = folder / f"{table.stem}-{version}.manifest"
    for path in table.glob("_versions/*.manifest"):
        if version_number(path) == version:
            os.replace(path, target)
    (table / "_versions" / "latest_version_hint.json").unlink(missing_ok=True)
    sync_path(table / "_versions")
    sync_path(folder)
    return target


def read_acknowledged(database: Path) -> dict[str, int]:
    """Return the last durable version by table name."""
    try:
        return json.loads((database / ACKNOWLEDGED_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def acknowledge(database: Path, table: str, version: int) -> None:
    """Record that a version, and everything before it, is durable."""
    known = {**read_acknowledged(database), table: version}
    with replace_file(database / ACKNOWLEDGED_FILE) as file:
        file.write(json.dumps(known).encode())


def list_files(table: Path) -> dict[Path, int]:
    """Return all files of a table with the time of their last change, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in table.rglob("*") if path.is_file()}


def orphans(database: Path, name: str) -> list[Path]:
    """Return data files of a table that none of its versions names: a killed writer's."""
    folder = table_folder(database, name)
    manifests = b"".join(path.read_bytes() for path in folder.glob("_versions/*.manifest"))
    files = sorted(folder.glob("data/*.lance"))
    return [path for path in files if path.name.encode() not in manifests]


def sweep(database: Path) -> int:
    """Remove what killed writers left half-written; only ever called under the writer lock.

    Returns:
        Number of files removed.
    """
    leftovers = [*database.glob(f"*{TEMPORARY}"), *database.glob("*.lance/**/.tmp*")]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def version_number(manifest: Path) -> int:
    """Return the version that a manifest file is of, by its name; 0 for another file."""
    name = manifest.stem
    if not name.isdecimal():
        return 0
    return _HIGHEST - int(name) if len(name) == len(str(_HIGHEST)) else int(name)
