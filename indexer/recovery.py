"""Back to the last good version of a table, after a power cut or a damaged disk."""

import warnings
from collections.abc import Callable
from pathlib import Path

from .durability import sync_tree
from .errors import StoreError, StoreWarning
from .versions import acknowledge, newest_version, set_aside, table_folder


def recover(database: Path, name: str, is_readable: Callable[[], bool]) -> None:
    """Make the newest readable version of a table the newest, and durable; under the writer lock.

    Args:
        database: the database folder.
        name: a table with versions that were never acknowledged, or that cannot be opened.
        is_readable: reads the table, as it stands now, from end to end.

    Raises:
        StoreError: no version is readable.
    """
    folder = table_folder(database, name)
    while version := newest_version(folder):
        if is_readable():
            sync_tree(folder)
            acknowledge(database, name, version)
            return
        target = set_aside(folder, version)
        warnings.warn(
            f"version {version} of table {name} in {database} is unreadable and was set aside as "
            f"{target}; going on with the version before it",
            StoreWarning,
            stacklevel=5,
        )
    raise StoreError(f"no version of table {name} in {database} is readable")
