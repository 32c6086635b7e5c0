"""The last stage of a run: from the spool, in blocks, to the table, and the manifest at the end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from .errors import ModelError, StoreError
from .job import Job, RunState
from .records import block_rows, regroup, standardized_records
from .schema import ID, REJECTS, REJECTS_SCHEMA, SAMPLES
from .spool import Spool
from .statistics import RunningStatistics, Statistics
from .store import Store


def finish_index(store: Store, spool: Spool, state: RunState, job: Job) -> None:
    """Turn a complete spool into a finished index: one table, one fragment, one version.

    Raises:
        ModelError: no image had a finite profile.
        StoreError: the disk is full or fails; the spool is kept.
    """
    running = _complete(spool, state)
    if running.count == 0:
        raise ModelError(f"{job.loaded.spec} gives no finite profile for any image")
    statistics = running.result()
    schema = job.schema(state.manifest.embedding)
    store.discard_tables()  # of an attempt to finish that was cut off
    store.create_samples(_standardized(spool, schema, statistics, state.manifest.signed))
    if store.count() != statistics.count:
        raise StoreError(
            f"{store.path} took {store.count()} of {statistics.count} samples: run it again"
        )
    _write_rejects(store, spool, state.source)
    store.publish(state.manifest, statistics)
    spool.remove()


def finish_adding(store: Store, spool: Spool, state: RunState) -> None:
    """Add the source to the manifest, then its samples, then its rejects: each step repeatable.

    Raises:
        StoreError: the disk is full or fails; the spool is kept.
    """
    running = _complete(spool, state)
    store.publish(state.manifest)
    schema = store.table(SAMPLES).schema
    if running.count and not store.count(f"source = {state.source}"):
        store.append_samples(_standardized(spool, schema, store.statistics, state.manifest.signed))
    _write_rejects(store, spool, state.source)
    spool.remove()


def _complete(spool: Spool, state: RunState) -> RunningStatistics:
    """Return the merged statistics of a spool that accounts for every row of the data set."""
    running = spool.statistics()
    accounted = running.count + len(spool.rejected())
    if accounted != state.rows:
        raise StoreError(
            f"{spool.folder} accounts for {accounted} of {state.rows} rows: "
            "delete it to start again"
        )
    return running


def _standardized(
    spool: Spool, schema: pa.Schema, statistics: Statistics, signed: bool
) -> pa.RecordBatchReader:
    blocks = regroup(spool.batches(), block_rows(len(statistics.mean)))
    standardized = (standardized_records(schema, block, statistics, signed) for block in blocks)
    return pa.RecordBatchReader.from_batches(schema, _one_ahead(standardized))


def _one_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Make the next batch in a thread while the caller stores the last one."""
    with ThreadPoolExecutor(1, "standardize") as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _write_rejects(store: Store, spool: Spool, source: int) -> None:
    rejected = spool.rejected()
    table = pa.table(
        {
            ID: [row.id for row in rejected],
            "source": [source] * len(rejected),
            "ref": [row.ref for row in rejected],
            "reason": [row.reason for row in rejected],
        },
        schema=REJECTS_SCHEMA,
    )
    before = store.read_table(REJECTS)
    if before is not None:
        others = [value != source for value in before["source"].to_pylist()]
        table = pa.concat_tables([before.filter(pa.array(others, pa.bool_())), table])
    store.write_table(REJECTS, table)
