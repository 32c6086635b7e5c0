"""The Lance tables of a database folder: opened, committed to lastingly, mended after a power cut.

lancedb takes a second to import, so it is imported when a table is first opened.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .durability import store_errors, sync_files
from .errors import AbsentError, LockedError, StoreError
from .lance_footer import short_files
from .lock import hold_writer_lock
from .recovery import recover
from .versions import (
    acknowledge,
    list_files,
    newest_version,
    read_acknowledged,
    sweep,
    table_folder,
    table_names,
)

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table

_PATIENCE_S = 1.0


class Tables:
    """The tables of one folder, open for reading, and for writing under its lock.

    Reads always see the newest version. Writes are synced to disk before the call returns. An
    instance may be shared between threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tables: dict[str, Table] = {}
        self._mutex = threading.RLock()
        self._depth = 0

    def table(self, name: str) -> "Table":
        """Return lancedb's own handle of a table, following its newest version.

        Raises:
            AbsentError: no such table.
            StoreError: no version of it is readable.
        """
        table = self._tables.get(name)
        if table is None:
            if not newest_version(table_folder(self.path, name)):
                raise AbsentError(f"{self.path} has no table {name}")
            try:
                table = self._connection.open_table(name)
            except (RuntimeError, ValueError, OSError):
                self._recover(name)
                table = self._connection.open_table(name)
            self._tables[name] = table
        return table

    def table_at(self, name: str, version: int) -> "Table":
        """Return lancedb's own handle of one version of a table, which stays at that version.

        Raises:
            StoreError: the version is gone, or cannot be read.
        """
        with store_errors(f"read version {version} of {name} of {self.path}"):
            table = self._connection.open_table(name)
            table.checkout(version)
            return table

    @contextmanager
    def writer(self, patience: float = _PATIENCE_S) -> Iterator[None]:
        """Hold the database's writer lock; may be nested.

        Leftovers of killed writers are swept as soon as the lock is held.

        Args:
            patience: seconds to wait for another holder, who may only have looked after a version.

        Raises:
            LockedError: another process is writing.
        """
        with self._mutex, ExitStack() as stack:
            if self._depth == 0:
                stack.enter_context(hold_writer_lock(self.path, patience))
                sweep(self.path)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextmanager
    def commit(self, name: str) -> Iterator["DBConnection"]:
        """Write to a table inside the block; on leaving it everything new is synced.

        Yields:
            The lancedb connection.

        Raises:
            StoreError: the write failed; what was there before is untouched.
        """
        folder = table_folder(self.path, name)
        with self.writer(), store_errors(f"write {name} to {self.path}"):
            before = list_files(folder)
            yield self._connection
            after = list_files(folder)
            new = [path for path, changed in after.items() if before.get(path) != changed]
            sync_files(new, root=self.path)
            self._refuse_short_files(name, new)
            acknowledge(self.path, name, newest_version(folder))

    def look_after_tables(self) -> None:
        """Go back to the last good version of every table that was never acknowledged."""
        known = read_acknowledged(self.path)
        for name in table_names(self.path):
            if newest_version(table_folder(self.path, name)) != known.get(name):
                self._recover(name)

    @cached_property
    def _connection(self) -> "DBConnection":
        return _connect(self.path)

    def _recover(self, name: str) -> None:
        """Go back to the last good version of a table.

        While another process is writing there is nothing to mend: what it committed is whole, and
        it is about to be synced. It may have been acknowledged since this store looked.
        """
        with suppress(LockedError), self.writer(patience=0):
            newest = newest_version(table_folder(self.path, name))
            if newest != read_acknowledged(self.path).get(name):
                recover(self.path, name, lambda: self._is_readable(name))

    def _refuse_short_files(self, name: str, new: list[Path]) -> None:
        """Take a version back in which the disk lost a write.

        Lance 13 commits a file although one of its writes failed, and the file is short then. Files
        of earlier versions are no matter of this write.
        """
        short = short_files(table_folder(self.path, name))
        if not set(short).intersection(new) and self._can_be_read(name, columns=1):
            return
        recover(self.path, name, lambda: self._is_readable(name))
        raise StoreError(
            f"the disk lost part of what was written to {name} of {self.path}: what was there "
            "before is untouched; check the disk and repeat the same command"
        )

    def _is_readable(self, name: str) -> bool:
        """Read a whole table, and look at the ends of its files, those of indexes among them."""
        try:
            return self._can_be_read(name) and not short_files(table_folder(self.path, name))
        except OSError:
            return False

    def _can_be_read(self, name: str, columns: int | None = None) -> bool:
        """Read the first columns of a table, all by default."""
        self._tables.pop(name, None)
        try:
            table = _connect(self.path).open_table(name)  # afresh: a cache would hide the damage
            for _ in table.search().select(table.schema.names[:columns]).to_batches():
                pass
        except (RuntimeError, ValueError, OSError):
            return False
        return True


def _connect(path: Path) -> "DBConnection":
    # lance writes warnings of its clustering to stderr by the dozen; users asked for none of it.
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    return lancedb.connect(path, read_consistency_interval=timedelta(0))
