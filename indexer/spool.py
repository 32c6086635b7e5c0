"""Raw profiles on their way to the table: segments on disk, each there as a whole or not at all.

A segment is a folder with the rows (Arrow), the rejected rows and the statistics of some
consecutive rows of the data set. It is written under a temporary name, synced and renamed, so an
interrupted run continues after its last segment. `run.json` beside them says what run this is.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from .durability import TEMPORARY, disk_errors, replace_file, sync_files, sync_path
from .errors import StoreError
from .reading import Rejected
from .records import raw_profiles, spool_schema
from .statistics import RunningStatistics

SPOOL_FOLDER = "spool"
STATE_FILE = "run.json"
BUFFER_BYTES = 2**16
_ROWS, _REJECTED, _STATISTICS = "rows.arrow", "rejected.json", "statistics.npz"


class Spool:
    """The spool folder of a database."""

    def __init__(self, database: Path) -> None:
        self.folder = database / SPOOL_FOLDER

    def read_state(self) -> dict | None:
        """Return what `write_state` was given last; None where no run was begun."""
        try:
            return json.loads((self.folder / STATE_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(
                f"{self.folder / STATE_FILE} is unreadable: delete {self.folder} to start again"
            ) from error

    def write_state(self, state: dict) -> None:
        """Record what run this is, lastingly."""
        with disk_errors(self.folder):
            if not self.folder.exists():
                self.folder.mkdir()
                sync_path(self.folder.parent)
            with replace_file(self.folder / STATE_FILE) as file:
                file.write(json.dumps(state).encode())

    def segments(self) -> list[Path]:
        """Return the finished segments, in order."""
        names = sorted(path for path in self.folder.glob("*") if path.name.isdecimal())
        for number, path in enumerate(names):
            if int(path.name) != number:
                raise StoreError(
                    f"segment {number} is missing in {self.folder}: delete it to start again"
                )
        return names

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the rows of all segments, mapped from disk."""
        for segment in self.segments():
            with pa.memory_map(str(segment / _ROWS)) as file, pa.ipc.open_file(file) as reader:
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)

    def rejected(self) -> list[Rejected]:
        """Return all rejected rows, in order."""
        return [
            Rejected(**row)
            for segment in self.segments()
            for row in json.loads((segment / _REJECTED).read_text(encoding="utf-8"))
        ]

    def statistics(self) -> RunningStatistics:
        """Return the merged statistics of all segments (there is at least one)."""
        parts = (_load_statistics(segment / _STATISTICS) for segment in self.segments())
        merged = next(parts)
        for part in parts:
            merged.merge(part)
        return merged

    def remove(self) -> None:
        """Delete the spool, lastingly the state first, so that no half of it is taken for a run."""
        if (self.folder / STATE_FILE).exists():
            with disk_errors(self.folder):
                (self.folder / STATE_FILE).unlink()
                sync_path(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


class SegmentWriter:
    """Writes segments one after the other.

    Args:
        spool: where to.
        samples: schema of the samples table.
    """

    def __init__(self, spool: Spool, samples: pa.Schema) -> None:
        self._folder = spool.folder
        self._schema = spool_schema(samples)
        self._number = len(spool.segments())
        for leftover in self._folder.glob(f"*{TEMPORARY}"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._file: pa.ipc.RecordBatchFileWriter | None = None

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches to write."""
        return self._schema

    def write(self, rows: pa.RecordBatch | None, rejected: list[Rejected]) -> None:
        """Add rows and rejections to the segment in work; raises StoreError on a full disk."""
        with disk_errors(self._folder):
            self._write(rows, rejected)

    def _write(self, rows: pa.RecordBatch | None, rejected: list[Rejected]) -> None:
        if self._file is None:
            self._partial.mkdir()
            self._rejected: list[Rejected] = []
            self._statistics = RunningStatistics(self._schema.field("raw").type.list_size)
            self._sink = pa.output_stream(str(self._partial / _ROWS), buffer_size=BUFFER_BYTES)
            self._file = pa.ipc.new_file(self._sink, self._schema)
        if rows is not None and len(rows):
            self._file.write_batch(rows)
            self._statistics.update(raw_profiles(rows))
        self._rejected.extend(rejected)

    def finish_segment(self) -> None:
        """Make the segment in work a finished one, lastingly; raises StoreError on a full disk."""
        with disk_errors(self._folder):
            self._finish_segment()

    def _finish_segment(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._sink.close()
        self._file = None
        rejected = [asdict(row) for row in self._rejected]
        (self._partial / _REJECTED).write_text(json.dumps(rejected), encoding="utf-8")
        statistics = self._statistics
        np.savez(
            self._partial / _STATISTICS,
            count=statistics.count,
            mean=statistics.mean,
            m2=statistics.m2,
        )
        sync_files(self._partial.iterdir(), root=self._partial)
        os.replace(self._partial, self._folder / f"{self._number:06d}")
        sync_path(self._folder)
        self._number += 1

    def close(self) -> None:
        """Let go of a segment that was not finished; on a full disk even that may fail."""
        if self._file is not None:
            self._file = None
            with suppress(OSError):
                self._sink.close()

    @property
    def _partial(self) -> Path:
        return self._folder / f"{self._number:06d}{TEMPORARY}"


def _load_statistics(path: Path) -> RunningStatistics:
    with np.load(path, allow_pickle=False) as file:
        part = RunningStatistics(len(file["mean"]))
        part.count, part.mean, part.m2 = int(file["count"]), file["mean"], file["m2"]
    return part
