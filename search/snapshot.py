"""One version of the samples table, opened for searching without the database where possible.

A snapshot joins the light columns (an Arrow file in the cache), the profile column (mapped where
Lance wrote it) and the norms of its rows. All three belong to one version: its rows never change
under a running search, whatever a writer does meanwhile.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

import json
import tempfile
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import StoreError, UnknownSampleError
from indexer.schema import HEAVY, ID, PROFILE, SAMPLES, THUMBNAIL
from indexer.store import Store
from indexer.versions import table_folder, version_number

from . import cache
from .arrow import integers, marked, numbers, strings
from .coarse import Coarse
from .coarse_file import read_coarse, write_coarse
from .column import Column, map_parts, numkong
from .cosine import SearchedProfiles
from .lance_file import Segment, locate_column
from .predicates import FAILURES, Filter, mask
from .products import norms
from .results import Sample, samples_from_arrow

if TYPE_CHECKING:
    from .ann import AnnIndex

Among = Literal["failures", "all"]

SAMPLES_FILE = "samples.arrow"
SEGMENTS_FILE = "segments.json"
PROFILES_FILE = "profiles.bin"
NORMS_FILE = "norms.npy"

COARSE_AT_ONCE = 2**30
"""Bytes of coarse profiles that may be made in the course of a search."""

_CHECKED_ROWS = 16
_FEW = 4
_RETRIES = 4

_lock = threading.Lock()


class Snapshot:
    """The samples of one version of the table, by position (row number)."""

    def __init__(self, store: Store, manifest: Path) -> None:
        self.store = store
        self.folder = cache.version_folder(store, manifest)
        self._manifest = manifest
        self._stamp = _stamp(manifest)
        self._coarse: Coarse | None = None
        self._searched = self._refused = False
        self._making = threading.Lock()
        self.ann: AnnIndex | None = None  # kept here by `search.ann`, once opened

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def version(self) -> int:
        """Number of the version of the table."""
        return version_number(self._manifest)

    def is_newest(self) -> bool:
        """Return whether no newer version of the table is there."""
        manifest = cache.version_manifest(self.store)
        return manifest == self._manifest and _stamp(manifest) == self._stamp

    @cached_property
    def samples(self) -> pa.Table:
        """All columns that are not `HEAVY`, in the order of the table."""
        path = self.folder / SAMPLES_FILE
        if path.exists():
            try:
                return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            except (pa.ArrowException, OSError):
                path.unlink(missing_ok=True)  # damaged: made again below
        names = [name for name in self._schema.names if name not in HEAVY]
        samples = self.store.read(names).combine_chunks()
        self._require_newest()
        cache.write(path, lambda file: _write_ipc(file, samples))
        return samples

    @cached_property
    def column(self) -> Column:
        """The profiles.

        Raises:
            StoreError: the rows on disk are not those that the database gives.
        """
        path = self.folder / SEGMENTS_FILE
        try:
            segments = [Segment(**part) for part in json.loads(path.read_text(encoding="utf-8"))]
            return self._map(segments)
        except (OSError, ValueError, TypeError):
            return self._verified_column()

    @cached_property
    def norms(self) -> np.ndarray:
        """Norm of every profile, float64 [N]."""
        path = self.folder / NORMS_FILE
        try:
            found = np.load(path, allow_pickle=False)
            if found.shape == (len(self),) and found.dtype == np.float64:
                return found
        except (OSError, ValueError, EOFError):
            pass
        found = norms(self.column)
        cache.write(path, lambda file: np.save(file, found))
        return found

    @cached_property
    def failures(self) -> np.ndarray:
        """Positions of the misclassified samples, int64, ascending."""
        return marked(FAILURES.mask(self.samples))

    def coarse(self, *, make: bool = False) -> Coarse | None:
        """Return the failures in one byte a value, from the cache.

        They are put there when they are asked for a second time, unless they are very many.

        Args:
            make: put them there now, however many they are.

        Returns:
            None where they are not there, or numkong is not installed.
        """
        if numkong() is None or not len(self.failures):
            return None
        with self._making:
            if self._coarse is None and not self._refused:
                width, signed = self.column.width, self.store.manifest.signed
                self._coarse = read_coarse(self.folder, self.failures, width, signed)
                make |= self._searched and len(self.failures) * width <= COARSE_AT_ONCE
                if self._coarse is None and make:
                    write_coarse(self.folder, self.column, self.norms, self.failures, signed)
                    self._coarse = read_coarse(self.folder, self.failures, width, signed)
                    self._refused = self._coarse is None
            self._searched = True
            return self._coarse

    def profiles(self, among: np.ndarray | None = None, *, many: bool = False) -> SearchedProfiles:
        """Return what an exact search reads.

        Args:
            among: positions to search among; failures are searched by their coarse profiles.
            many: whether there are many queries, so that making those pays at once.
        """
        coarse = self.coarse(make=many) if among is self.failures else None
        return SearchedProfiles(self.column, self.norms, self.ids, coarse)

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Return the positions of ids, int64 in their order.

        Raises:
            UnknownSampleError: names the first id that is not in the index.
        """
        known = self.samples[ID]
        wanted = strings(ids)
        if len(ids) <= _FEW:  # a scan; beyond that a hash table pays
            found = np.array([pc.index(known, name).as_py() for name in wanted], np.int64)
        else:
            found = numbers(pc.fill_null(pc.index_in(wanted, value_set=known), -1), np.int32)
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            raise self._unknown(ids[int(unknown[0])])
        return found.astype(np.int64)

    def _unknown(self, name: str) -> UnknownSampleError:
        from .modes import known_modes  # which look into snapshots themselves

        modes = known_modes(self.store)
        hint = ""
        if modes is not None and any(mode.id == name for mode in modes.modes):
            hint = f": it is a mode, see `failsearch failures --mode {name}` or `modes {name}`"
        return UnknownSampleError(f"no sample {name!r} in {self.store.path}{hint}")

    def matching(self, among: Among, filters: Sequence[Filter] = ()) -> np.ndarray | None:
        """Return the positions that pass all filters, ascending; None for all samples.

        Args:
            among: "failures" or "all".
            filters: all must hold.

        Raises:
            FilterError: a filter does not fit the columns.
        """
        if not filters:
            return self.failures if among == "failures" else None
        chosen = [*filters, FAILURES] if among == "failures" else filters
        return marked(mask(chosen, self.samples))

    def ids(self, positions: np.ndarray) -> list[str]:
        """Return the ids at positions."""
        return self.samples[ID].take(integers(positions)).to_pylist()

    def sample_table(self, positions: np.ndarray) -> pa.Table:
        """Return the light columns at positions, in their order."""
        return self.samples.take(integers(positions))

    def read_samples(
        self, positions: np.ndarray, *, thumbnails: bool = False
    ) -> tuple[Sample, ...]:
        """Return the samples at positions, in their order; thumbnails ask the database."""
        table = self.sample_table(positions)
        if thumbnails and len(table):
            images = self.store.take(table[ID].to_pylist(), [THUMBNAIL])
            table = table.append_column(THUMBNAIL, images[THUMBNAIL])
        return samples_from_arrow(table)

    # -- the profile column ---------------------------------------------------------------

    @cached_property
    def _schema(self) -> pa.Schema:
        return self.store.table(SAMPLES).schema

    def _map(self, segments: Iterable[Segment]) -> Column:
        manifest = self.store.manifest
        folder = table_folder(self.store.path, SAMPLES)
        parts = []
        for segment in segments:
            file = folder / segment.file
            if file.stat().st_size != segment.size:
                raise ValueError(f"{file} is not the file it was")
            parts.append((file, segment.offset, segment.rows))
        return map_parts(parts, len(manifest.layout), np.dtype(manifest.profile_dtype))

    def _verified_column(self) -> Column:
        """Map the column where Lance wrote it, or else a copy of it, and compare rows."""
        manifest = self.store.manifest
        itemsize = np.dtype(manifest.profile_dtype).itemsize
        table = table_folder(self.store.path, SAMPLES)
        width = len(manifest.layout) * itemsize
        segments = locate_column(table, self._manifest, PROFILE, width)
        if segments is not None and not any(part.offset % itemsize for part in segments):
            column = self._map(segments)
            if self._holds_rows_of_database(column):
                self._remember(segments)
                return column
        return self._copied_column()

    def _copied_column(self) -> Column:
        """Copy the column: to the cache, or where that cannot be written to a temporary file."""
        path = self.folder / PROFILES_FILE

        def fill(file: IO[bytes]) -> None:
            for batch in self.store.scan([PROFILE]):
                file.write(batch.column(0).flatten().to_numpy())

        if cache.write(path, fill):
            relative = Path("..") / path.relative_to(self.store.path)
            segments = (Segment(str(relative), path.stat().st_size, 0, len(self)),)
            column = self._map(segments)
        else:
            manifest = self.store.manifest
            with tempfile.TemporaryFile() as file:
                fill(file)
                part = (file, 0, len(self))
                width, dtype = len(manifest.layout), np.dtype(manifest.profile_dtype)
                column = map_parts([part], width, dtype)
            segments = None
        if not self._holds_rows_of_database(column):
            raise StoreError(f"profiles of {self.store.path} do not read back as written")
        if segments is not None:
            self._remember(segments)
        return column

    def _remember(self, segments: Sequence[Segment]) -> None:
        self._require_newest()
        document = json.dumps([asdict(part) for part in segments]).encode()
        cache.write(self.folder / SEGMENTS_FILE, lambda file: file.write(document))

    def _holds_rows_of_database(self, column: Column) -> bool:
        """Compare rows at both ends of every part, and some between, with the database."""
        if len(column) != len(self):
            return False
        ends = np.cumsum([len(part) for part in column.parts])
        between = np.linspace(0, max(len(self) - 1, 0), _CHECKED_ROWS).astype(np.int64)
        chosen = np.unique(np.concatenate([between, ends - 1, ends[:-1]]))
        chosen = chosen[(chosen >= 0) & (chosen < len(self))]
        if not len(chosen):
            return True
        profiles = self.store.take(self.ids(chosen), [PROFILE])[PROFILE].combine_chunks()
        expected = profiles.flatten().to_numpy().reshape(len(chosen), -1)
        return np.array_equal(column.rows(chosen), expected.astype(np.float32), equal_nan=True)

    def _require_newest(self) -> None:
        if not self.is_newest():
            raise _ChangedError(f"samples of {self.store.path} change while they are read")


class _ChangedError(StoreError):
    """The table got a newer version while a snapshot was made of the one before."""


def snapshot(store: Store) -> Snapshot:
    """Return the newest version of the samples, loaded; kept for as long as it is the newest.

    Raises:
        StoreError: there are no samples, or they changed again and again while being read.
    """
    with _lock:
        known: Snapshot | None = store.snapshot
        if known is not None and known.is_newest():
            return known
        for _ in range(_RETRIES):
            with suppress(_ChangedError):
                return _made(store)
        return _made(store)


def _made(store: Store) -> Snapshot:
    made = Snapshot(store, cache.version_manifest(store))
    _ = made.samples, made.column
    store.snapshot = made
    return made


def _stamp(manifest: Path) -> tuple[int, int]:
    status = manifest.stat()
    return status.st_mtime_ns, status.st_size


def _write_ipc(file: BinaryIO, table: pa.Table) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
