"""Files that lie beside the table and are derived from one version of it.

`<database>/cache/<version>-<digest>/` holds what is costly to read from the table again: light
columns, norms, the neighbour graph. The digest is that of the version's manifest, so a table that
was made anew under the same number never meets the files of its forerunner. The cache can be
removed at any time; where it cannot be written, everything works from memory.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from indexer.copies import CACHE_FOLDER
from indexer.durability import write_derived
from indexer.errors import AbsentError
from indexer.schema import SAMPLES
from indexer.store import Store
from indexer.versions import newest_manifest, table_folder, version_key


def version_manifest(store: Store) -> Path:
    """Return the manifest file of the newest version of the samples table.

    Raises:
        AbsentError: the table has no version.
    """
    manifest = newest_manifest(table_folder(store.path, SAMPLES))
    if manifest is None:
        raise AbsentError(f"{store.path} has no table {SAMPLES}")
    return manifest


def version_folder(store: Store, manifest: Path) -> Path:
    """Return the cache folder of the version with this manifest; it need not exist."""
    return store.path / CACHE_FOLDER / version_key(manifest)


def write(path: Path, fill: Callable[[BinaryIO], object]) -> bool:
    """Write a cache file, whole or not at all, synced; several processes may do so at once.

    Folders of older versions are removed on the way: nobody asks for them again.

    Returns:
        Whether the file is there now; a read-only or full disk only costs the next start time.
    """
    if not write_derived(path, fill):
        return False
    _remove_older(path.parent)
    return True


def clear(store: Store) -> int:
    """Remove all cached files and return the bytes freed."""
    folder = store.path / CACHE_FOLDER
    freed = size(store)
    shutil.rmtree(folder, ignore_errors=True)
    return freed


def size(store: Store) -> int:
    """Return the bytes of all cached files."""
    return sum(
        path.stat().st_size for path in (store.path / CACHE_FOLDER).rglob("*") if path.is_file()
    )


def _remove_older(folder: Path) -> None:
    number = _number(folder)
    for other in folder.parent.iterdir():
        if other != folder and 0 < _number(other) <= number:
            shutil.rmtree(other, ignore_errors=True)


def _number(folder: Path) -> int:
    """Return the version that a folder of the cache belongs to; 0 for one of another kind."""
    number, _, _ = folder.name.partition("-")
    return int(number) if number.isdecimal() else 0
