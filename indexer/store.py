"""The database of an index.

A database is a folder: Lance tables (`samples`, `rejects`, `modes`, ...), `manifest.json`,
`statistics.npz` and the lock. Opening one and reading its small tables do without lancedb.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from .copies import read_through_copy
from .durability import disk_errors, replace_file, store_errors, sync_path
from .errors import AbsentError, StoreError, UnknownSampleError
from .lance_footer import INDEX_SUFFIX, short_files
from .manifest import MANIFEST_FILE, Manifest, read_manifest
from .migration import migrate
from .schema import ID, METRIC, PROFILE, SAMPLES
from .statistics import Statistics
from .tables import Tables
from .versions import newest_version, table_folder

if TYPE_CHECKING:
    from lancedb.table import Table

Answer = TypeVar("Answer")
STATISTICS_FILE = "statistics.npz"
_ROW = "_rowid"


class Store(Tables):
    """One database folder, open for reading, and for writing under its lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._numbers: tuple[int, pa.Table] | None = None  # version, (id, row number) of all rows
        self.snapshot: Any = None  # kept here by `search.snapshot`, once opened

    # -- life of a database ---------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a finished index.

        Raises:
            AbsentError: there is none, or its indexing run was never finished.
            IncompatibleIndexError: it was made by a newer failsearch, or one that is too old.
        """
        store = cls(Path(path))
        migrate(store.path)
        _ = store.manifest  # fails here rather than at the first use
        store.look_after_tables()
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
        """What the index was made with; raises AbsentError where it is not there or unfinished."""
        if not self.path.is_dir():
            raise AbsentError(f"no index at {self.path}: make one with `failsearch index`")
        manifest = read_manifest(self.path)
        if manifest is None:
            raise AbsentError(
                f"{self.path} holds no finished index: make one with `failsearch index`, or run "
                "the same command again where it was interrupted"
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
        table, numbers, version = self.table(SAMPLES), self._numbers, self.version
        if numbers is None or numbers[0] != version:
            known = table.search().select([ID]).with_row_id(True).to_arrow()
            numbers = self._numbers = version, known.combine_chunks()
        known = numbers[1].filter(pc.is_in(numbers[1][ID], value_set=wanted))
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

    # -- writing --------------------------------------------------------------------------

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
            self._drop_damaged_indexes()
            from lancedb.index import IvfRq

            config = IvfRq(distance_type=METRIC, num_partitions=partitions, num_bits=1)
            table.create_index(PROFILE, config=config)

    def _drop_damaged_indexes(self) -> None:
        """Delete indexes that lost bytes: the version that replaces them still names them."""
        for file in short_files(table_folder(self.path, SAMPLES)):
            if file.suffix == INDEX_SUFFIX:
                shutil.rmtree(file.parent, ignore_errors=True)

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
