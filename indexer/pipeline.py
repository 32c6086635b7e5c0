"""The way of a data set into an index: read, decode, profile, spool, standardize, store.

Profiles are standardized with the mean and deviation over the whole set, which are known only
after its last image. So raw profiles go to a spool on disk first, and from there in blocks to the
table; nothing grows with the number of images but the disk.

A run may end at any point. Finished segments of the spool are kept, and the same command goes on
after them; the manifest is written last. The finished index is bit for bit that of a run that was
never interrupted.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from .allocation import kept_memory
from .datasets import ImageDataset
from .durability import COST
from .errors import IncompatibleIndexError, StoreError
from .finish import finish_adding, finish_index
from .job import IndexSettings, Job, RunState
from .manifest import Manifest, read_manifest
from .models import LoadedModel
from .progress import Progress, track
from .reading import HELD_ALREADY, ImageReader
from .schema import ID, METADATA_PREFIX, REJECTS, SAMPLES
from .spool import Spool
from .store import Store
from .stream import begin_run, profile_rows
from .versions import table_names


@dataclass(frozen=True)
class IndexReport:
    """What a run did.

    Attributes:
        path: the database.
        status: "indexed", "continued", "added", or "unchanged" where all was there already.
        samples: samples of the index.
        rejected: rows of this data set that could not be used; the `rejects` table has them.
        duplicates: of them, those whose id the index held already.
        left_out: columns of this data set that are not kept: lists, structs, bytes.
        profiled: images that went through the model in this run.
        accuracy: share of correct predictions over the index.
        units: F, length of a profile.
        engine: "fast" or "reference".
        seconds: wall time.
        sync_seconds: time that threads spent syncing to disk, most of it beside the model's work.
    """

    path: Path
    status: str
    samples: int
    rejected: int
    duplicates: int
    left_out: tuple[str, ...]
    profiled: int
    accuracy: float
    units: int
    engine: str
    seconds: float
    sync_seconds: float


def index_dataset(
    dataset: ImageDataset,
    loaded: LoadedModel,
    db: str | Path,
    settings: IndexSettings | None = None,
    progress: Progress = track,
) -> IndexReport:
    """Index a data set, or go on where the same run was interrupted.

    Args:
        dataset: what to index.
        loaded: the classifier, in eval mode.
        db: database folder; made where it is not there.
        settings: choices of the run.
        progress: how to show it.

    Raises:
        IncompatibleIndexError: the database holds an index or an interrupted run that differs.
        LockedError: another process is writing to the database.
        DataError: no image can be used.
        StoreError: the disk is full or fails; what was done is kept.
    """
    clock = _Clock(dataset)
    job = Job.plan(dataset, loaded, settings or IndexSettings())
    store = Store.create(db)
    with store.writer():
        spool = Spool(store.path)
        finished = read_manifest(store.path)
        if finished is not None:
            _require_same_data(finished, job)
            _remove_done(spool)
            return clock.report(store, "unchanged", finished, source=0)
        reader = ImageReader(
            job.dataset, job.classes, loaded.transform, (), job.settings.max_pixels
        )
        state = _interrupted(spool, job)
        status = "indexed" if state is None else "continued"
        with kept_memory(), progress("Indexing", len(dataset), _rows_done(spool, state)) as tracker:
            if state is None:
                if table_names(store.path):
                    raise StoreError(f"{db} holds tables of something else: use another --db")
                state = begin_run(spool, job, reader, tracker)
            profiled, state = profile_rows(job, spool, state, reader, tracker)
        finish_index(store, spool, state, job)
        return clock.report(store, status, state.manifest, 0, profiled, state.manifest.engine)


def add_dataset(
    dataset: ImageDataset,
    loaded: LoadedModel,
    db: str | Path,
    settings: IndexSettings | None = None,
    progress: Progress = track,
) -> IndexReport:
    """Add a data set to an index, standardized with the statistics that the index has.

    Rows whose id the index holds already are rejected. All samples become visible at once, at the
    end. An interrupted run is continued by the same call.

    Args:
        dataset: what to add.
        loaded: the model of the index, see `indexed_model.load_indexed_model`.
        db: the database.
        settings: batch size, workers, class map and pixel limit; the rest is that of the index.
        progress: how to show it.

    Raises:
        StoreError, IncompatibleIndexError, LockedError, DataError: as in `index_dataset`.
    """
    clock = _Clock(dataset)
    store = Store.open(db)
    with store.writer():
        manifest, spool = store.manifest, Spool(store.path)
        job = Job.plan(dataset, loaded, _settings_of(manifest, settings or IndexSettings()))
        manifest.require_same_run(job.manifest())
        _remove_done(spool)
        state = _interrupted(spool, job)
        known = _known(manifest, job)
        if state is None and known is not None and _holds(store, known):
            return clock.report(store, "unchanged", manifest, known)
        _require_same_columns(store.table(SAMPLES).schema, dataset.metadata_schema)
        taken = set(store.read([ID])[ID].to_pylist())
        reader = ImageReader(
            job.dataset, job.classes, loaded.transform, taken, job.settings.max_pixels
        )
        with kept_memory(), progress("Adding", len(dataset), _rows_done(spool, state)) as tracker:
            if state is None:
                state = begin_run(spool, job, reader, tracker, manifest)
            profiled, state = profile_rows(job, spool, state, reader, tracker)
        finish_adding(store, spool, state)
        return clock.report(store, "added", manifest, state.source, profiled, state.manifest.engine)


def _interrupted(spool: Spool, job: Job) -> RunState | None:
    document = spool.read_state()
    if document is None:
        return None
    state = RunState.from_json(document)
    state.require_same(job)
    return state


def _remove_done(spool: Spool) -> None:
    """Remove the spool of a first run: its index is published, else nobody would ask."""
    document = spool.read_state()
    if document is not None and document["source"] == 0:
        spool.remove()


def _rows_done(spool: Spool, state: RunState | None) -> int:
    return 0 if state is None else state.rows_done(len(spool.segments()))


def _require_same_data(finished: Manifest, job: Job) -> None:
    finished.require_same_run(job.manifest())
    if _known(finished, job) is None:
        raise IncompatibleIndexError(
            f"the index holds {finished.sources[0]['path']}, not {job.dataset.spec} as it is now: "
            "add it with `failsearch add`, or use another --db"
        )


def _known(manifest: Manifest, job: Job) -> int | None:
    """Return the number of the job's data set among those of an index, the last if it is repeated.

    Raises:
        IncompatibleIndexError: it was indexed with another class map or limit of pixels.
    """
    numbered = enumerate(manifest.sources)
    known = [n for n, source in numbered if job.dataset.is_source(source)]
    if not known:
        return None
    indexed = manifest.sources[known[-1]]
    for name in ("class_map", "max_pixels"):
        if indexed.get(name, job.source[name]) != job.source[name]:  # early indexes lack some
            raise IncompatibleIndexError(
                f"{job.dataset.spec} was indexed with {name} {indexed[name]}, not "
                f"{job.source[name]}: index it again with another --db"
            )
    return known[-1]


def _holds(store: Store, source: int) -> bool:
    """Whether the rows of a data set are there: the manifest names it before they are added."""
    rejects = store.read_table(REJECTS)
    rejected = rejects is not None and source in rejects["source"].to_pylist()
    return rejected or store.count(f"source = {source}") > 0


def _settings_of(manifest: Manifest, settings: IndexSettings) -> IndexSettings:
    return replace(
        settings,
        units=manifest.units,
        aggregation=manifest.aggregation,
        signed=manifest.signed,
        precision=manifest.precision,
        profile_dtype=manifest.profile_dtype,
    )


def _require_same_columns(table: pa.Schema, metadata: pa.Schema) -> None:
    stored = {field.name: field.type for field in table if field.name.startswith(METADATA_PREFIX)}
    for field in metadata:
        if stored.get(field.name) != field.type:
            held = stored.get(field.name, "no such column")
            raise IncompatibleIndexError(
                f"column {field.name.removeprefix(METADATA_PREFIX)!r} holds {field.type}, the "
                f"index has {held}: rename or convert it"
            )


class _Clock:
    """Measures a run over a data set, and reports it."""

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset
        self._started, self._synced = time.perf_counter(), COST.seconds

    def report(
        self,
        store: Store,
        status: str,
        manifest: Manifest,
        source: int,
        profiled: int = 0,
        engine: str = "",
    ) -> IndexReport:
        rejects = store.read_table(REJECTS)
        rows = [] if rejects is None else rejects.select(["source", "reason"]).to_pylist()
        reasons = [row["reason"] for row in rows if row["source"] == source]
        samples = store.count()
        return IndexReport(
            path=store.path,
            status=status,
            samples=samples,
            rejected=len(reasons),
            duplicates=reasons.count(HELD_ALREADY),
            left_out=self._dataset.left_out,
            profiled=profiled,
            accuracy=store.count("correct") / max(samples, 1),
            units=len(manifest.layout),
            engine=engine,
            seconds=time.perf_counter() - self._started,
            sync_seconds=COST.seconds - self._synced,
        )
