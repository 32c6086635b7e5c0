"""The database of an index: the only place that knows lancedb.

A database is a folder: Lance tables (`samples`, `rejects`, `modes`, ...), `manifest.json`,
`statistics.npz` and the lock. lancedb takes a second to import, so it is imported when samples are
first read or a table is written; opening a database and reading its small tables do without it.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from .copies import read_through_copy
from .durability import disk_errors, replace_file, store_errors, sync_files, sync_path
from .errors import LockedError, StoreError, UnknownSampleError
from .lance_footer import short_files
from .lock import hold_writer_lock
from .manifest import MANIFEST_FILE, Manifest, read_manifest
from .migration import migrate
from .recovery import recover
from .schema import ID, METRIC, PROFILE, SAMPLES
from .statistics import Statistics
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

Answer = TypeVar("Answer")
STATISTICS_FILE = "statistics.npz"
_ROW = "_rowid"
_PATIENCE_S = 1.0


class Store:
    """One database folder, open for reading, and for writing under its lock.

    Reads always see the newest version. Writes are synced to disk before the call returns. An
    instance may be shared between threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tables: dict[str, Table] = {}
        self._mutex = threading.RLock()
        self._depth = 0
        self._numbers: tuple[int, pa.Table] | None = None  # version, (id, row number) of all rows

    # -- life of a database ---------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a finished index.

        Raises:
            StoreError: there is none, or its indexing run was never finished.
            IncompatibleIndexError: it was made by a newer failsearch, or one that is too old.
        """
        store = cls(Path(path))
        migrate(store.path)
        _ = store.manifest  # fails here rather than at the first use
        known = read_acknowledged(store.path)
        for name in table_names(store.path):
            if newest_version(table_folder(store.path, name)) != known.get(name):
                store._recover(name)
        return store

    @classmethod
    def create(cls, path: str | Path) -> "Store":
        """Open a database folder to be filled, made if it is not there.

        Raises:
            StoreError: the path is a file or cannot be made.
        """
        folder = Path(path)
        with disk_errors(folder):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                sync_path(folder.parent)
        return cls(folder)

    def publish(self, manifest: Manifest, statistics: Statistics | None = None) -> None:
        """Write the manifest, and before it the statistics; this makes the index a finished one."""
        with self.writer(), store_errors(f"write to {self.path}"):
            if statistics is not None:
                statistics.save(self.path / STATISTICS_FILE)
            with replace_file(self.path / MANIFEST_FILE) as file:
                file.write(json.dumps(manifest.to_json(), indent=1).encode())

    @property
    def manifest(self) -> Manifest:
        """What the index was made with; raises StoreError where it is absent or unfinished."""
        if not self.path.is_dir():
            raise StoreError(f"no index at {self.path}: make one with `failsearch index`")
        manifest = read_manifest(self.path)
        if manifest is None:
            raise StoreError(
                f"{self.path} holds no finished index: run the same `failsearch index` command "
                "again to finish it"
            )
        return manifest

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and deviation of the raw profiles; they never change once published."""
        return Statistics.load(self.path / STATISTICS_FILE)

    @property
    def version(self) -> int:
        """Number of the newest version of the samples table, read from file names; 0 for none."""
        return newest_version(table_folder(self.path, SAMPLES))

    # -- reading --------------------------------------------------------------------------

    def count(self, where: str | None = None) -> int:
        """Return the number of samples, or of those that match a SQL predicate."""
        return self._ask(lambda samples: samples.count_rows(where))

    def scan(
        self, columns: Sequence[str], where: str | None = None, batch_size: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Stream samples in the order they were added, with bounded memory.

        Args:
            columns: names of the columns to read; no other is touched.
            where: SQL predicate built by `search.predicates`, never from a user's text.
            batch_size: most rows in a batch.
        """
        with store_errors(f"read samples of {self.path}"):
            query = self.table(SAMPLES).search().select(list(columns))
            yield from (query.where(where) if where else query).to_batches(batch_size)

    def read(
        self, columns: Sequence[str], where: str | None = None, limit: int | None = None
    ) -> pa.Table:
        """Return samples in the order they were added; arguments as in `scan`."""
        if limit == 0:  # lancedb would take that for no limit
            return self._ask(lambda _: self._no_rows(columns))

        def read(samples: "Table") -> pa.Table:
            query = samples.search().select(list(columns))
            query = query.where(where) if where else query
            return (query.limit(limit) if limit is not None else query).to_arrow()

        return self._ask(read)

    def take(self, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Return the samples of these ids, in the order asked, repeated where asked twice.

        Raises:
            UnknownSampleError: names the first id that the index does not hold.
        """
        wanted = pa.array(ids, pa.string())
        names = list(dict.fromkeys([ID, *columns]))
        rows = self._ask(lambda _: self._rows(wanted, names))
        if rows is None:  # compacted in between, so that row numbers changed
            self._numbers = None
            rows = self._ask(lambda _: self._rows(wanted, names))
        if rows is None:
            raise StoreError(f"samples of {self.path} change while they are read: try again")
        return rows.select(list(columns))

    def _ask(self, question: "Callable[[Table], Answer]") -> Answer:
        """Ask the samples table, and once more where another process compacted it meanwhile."""
        with store_errors(f"read samples of {self.path}"):
            version = self.version
            try:
                return question(self.table(SAMPLES))
            except (RuntimeError, ValueError, OSError):
                if self.version == version:
                    raise
                return question(self.table(SAMPLES))

    def _rows(self, wanted: pa.StringArray, names: list[str]) -> pa.Table | None:
        """Return samples in the order wanted, None where the row numbers at hand are outdated."""
        table = self.table(SAMPLES)
        if self._numbers is None or self._numbers[0] != self.version:
            version = self.version
            known = table.search().select([ID]).with_row_id(True).to_arrow()
            self._numbers = version, known.combine_chunks()
        known = self._numbers[1].filter(pc.is_in(self._numbers[1][ID], value_set=wanted))
        missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=known[ID])))
        if len(missing):
            raise UnknownSampleError(f"no sample {missing[0].as_py()!r} in {self.path}")
        if not len(wanted):
            return self._no_rows(names)
        rows = table.take_row_ids(known[_ROW].to_pylist()).select(names).to_arrow()
        # Lance answers in its own order, whatever was asked.
        order = pc.index_in(wanted, value_set=rows[ID])
        return None if order.null_count else rows.take(order)

    def _no_rows(self, columns: Sequence[str]) -> pa.Table:
        schema = self.table(SAMPLES).schema
        return pa.schema([schema.field(name) for name in columns]).empty_table()

    def read_table(self, name: str) -> pa.Table | None:
        """Return a whole small table, from its copy where it has one; None for no such table."""
        with store_errors(f"read {name} of {self.path}"):
            return read_through_copy(self.path, name, lambda: self.table(name).to_arrow())

    def table(self, name: str) -> "Table":
        """Return lancedb's own handle of a table, following its newest version.

        Raises:
            StoreError: no such table, or no readable version of it.
        """
        if name not in self._tables:
            folder = table_folder(self.path, name)
            if not newest_version(folder):
                raise StoreError(f"{self.path} has no table {name}")
            try:
                self._tables[name] = self._connection.open_table(name)
            except (RuntimeError, ValueError, OSError):
                self._recover(name)
                self._tables[name] = self._connection.open_table(name)
        return self._tables[name]

    def table_at(self, name: str, version: int) -> "Table":
        """Return lancedb's own handle of one version of a table, which stays at that version.

        Raises:
            StoreError: the version is gone, or cannot be read.
        """
        with store_errors(f"read version {version} of {name} of {self.path}"):
            table = self._connection.open_table(name)
            table.checkout(version)
            return table

    # -- writing --------------------------------------------------------------------------

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
            StoreError: the write failed; the table is as it was before.
        """
        folder = table_folder(self.path, name)
        with self.writer(), store_errors(f"write {name} to {self.path}"):
            before = list_files(folder)
            yield self._connection
            after = list_files(folder)
            new = [path for path, changed in after.items() if before.get(path) != changed]
            sync_files(new, root=self.path)
            self._refuse_short_files(name)
            acknowledge(self.path, name, newest_version(folder))

    def discard_tables(self) -> None:
        """Delete all tables of an index that was never published; whoever made them is dead."""
        with self.writer(), store_errors(f"delete tables of {self.path}"):
            if (self.path / MANIFEST_FILE).exists():
                raise ValueError("a published index keeps its tables")
            self._tables.clear()
            for folder in self.path.glob("*.lance"):
                shutil.rmtree(folder)

    def create_samples(self, reader: pa.RecordBatchReader) -> None:
        """Write the samples table anew from one stream: one fragment, one version."""
        self._write(SAMPLES, reader)

    def append_samples(self, reader: pa.RecordBatchReader) -> None:
        """Add samples from one stream, as one version."""
        with self.commit(SAMPLES):
            self.table(SAMPLES).add(reader)

    def index_profiles(self, partitions: int) -> None:
        """Build a one-bit index (IVF_RQ) over the profiles of all samples, as one version."""
        with self.commit(SAMPLES):
            table = self.table(SAMPLES)  # first, since it sets up lancedb
            from lancedb.index import IvfRq

            config = IvfRq(distance_type=METRIC, num_partitions=partitions, num_bits=1)
            table.create_index(PROFILE, config=config)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Put a small table in place of the one of that name, as one version."""
        self._write(name, table)
        self.read_table(name)  # leaves the copy that the next reader looks for

    def append_table(self, name: str, table: pa.Table) -> None:
        """Add rows to a small table, made if it is not there."""
        if not newest_version(table_folder(self.path, name)):
            return self.write_table(name, table)
        with self.commit(name):
            self.table(name).add(table)
        self.read_table(name)

    def _write(self, name: str, rows: pa.RecordBatchReader | pa.Table) -> None:
        with self.commit(name) as connection:
            self._tables.pop(name, None)
            exists = newest_version(table_folder(self.path, name))
            connection.create_table(name, rows, mode="overwrite" if exists else "create")

    # -- recovery -------------------------------------------------------------------------

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

    def _refuse_short_files(self, name: str) -> None:
        """Take a version back in which the disk lost a write.

        Lance 13 commits a file although one of its writes failed, and the file is short then.
        """
        if self._is_readable(name, columns=1):
            return
        recover(self.path, name, lambda: self._is_readable(name))
        raise StoreError(
            f"the disk lost part of what was written to {name} of {self.path}: what was there "
            "before is untouched; check the disk and repeat the same command"
        )

    def _is_readable(self, name: str, columns: int | None = None) -> bool:
        """Read the first columns of a table, all by default, and look at the ends of its files."""
        self._tables.pop(name, None)
        try:
            table = _connect(self.path).open_table(name)  # afresh: a cache would hide the damage
            for _ in table.search().select(table.schema.names[:columns]).to_batches():
                pass
            return not short_files(table_folder(self.path, name))
        except (RuntimeError, ValueError, OSError):
            return False


def _connect(path: Path) -> "DBConnection":
    # lance writes warnings of its clustering to stderr by the dozen; users asked for none of it.
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    return lancedb.connect(path, read_consistency_interval=timedelta(0))
