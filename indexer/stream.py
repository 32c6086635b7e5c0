"""The middle of a run: images in, raw profiles out to the spool.

Reading runs ahead in worker threads, writing behind in another, the model in the calling thread;
bounded queues between them keep the memory the same for any number of images.
"""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice

import torch

from .errors import DataError
from .job import SEGMENT_BATCHES, Job, RunState
from .manifest import Manifest
from .profiling import (
    REFERENCE,
    Profiler,
    automatic_batch_size,
    choose_engine,
    collect,
    engine_name,
    engine_of,
)
from .progress import Tracker
from .reading import Batch, ImageReader, ReadImage, Rejected, group
from .records import raw_records
from .saliency.output import EngineOutput
from .spool import SegmentWriter, Spool

PROBES = 3
"""Images on which the engine is compared with the reference before a run."""

UNWRITTEN = 2
"""Profiled batches that may wait for the disk."""


def begin_run(
    spool: Spool, job: Job, reader: ImageReader, tracker: Tracker, into: Manifest | None = None
) -> RunState:
    """Choose engine and batch size, and record the run before its first image.

    Args:
        spool: where the run is recorded.
        job: what to do.
        reader: how to read the images.
        tracker: told which engine was chosen.
        into: manifest of the index that the run adds to; None for a new one.

    Raises:
        DataError: no image can be used.
    """
    with closing(reader.stream(0, workers=1, ahead=1)) as rows:
        probes = list(islice((row for row in rows if isinstance(row, ReadImage)), PROBES))
    if not probes:
        reasons = (row for row in reader.stream(0, 1, 1) if isinstance(row, Rejected))
        first = next(reasons)
        raise DataError(
            f"no image of {job.dataset.spec} can be used; the first, {first.id!r}: {first.reason}"
        )
    images = reader.inputs(probes)
    labels = torch.tensor([probe.target for probe in probes])
    model, settings = job.loaded.model, job.settings
    if into is not None and into.engine == REFERENCE:
        engine, verdict = engine_of(into, model), "one image at a time, as the index was made"
    else:
        engine, verdict = choose_engine(model, job.layout, settings.precision, images, labels)
    tracker.note(verdict)
    embeddings = engine(images[:1], labels[:1]).embeddings
    embedding = None if embeddings is None else embeddings.shape[1]
    batch_size = settings.batch_size or automatic_batch_size(model, images[0])
    manifest = job.manifest(batch_size, embedding, engine_name(engine))
    if into is not None:
        sources = (*into.sources, job.source)
        manifest = replace(into, sources=sources, batch_size=batch_size, engine=manifest.engine)
    state = RunState(
        manifest=manifest,
        source=len(manifest.sources) - 1,
        rows=len(job.dataset),
        segment_rows=SEGMENT_BATCHES * batch_size,
    )
    spool.remove()  # segments whose run.json was never written
    spool.write_state(state.to_json())
    return state


def profile_rows(
    job: Job, spool: Spool, state: RunState, reader: ImageReader, tracker: Tracker
) -> tuple[int, RunState]:
    """Profile all rows after the last finished segment, into the spool.

    Returns:
        The number of images profiled, and the state with the batch size that was left.
    """
    start, size = state.rows_done(len(spool.segments())), state.manifest.batch_size
    workers = job.settings.workers or min(8, os.cpu_count() or 1)
    profiler = Profiler(engine_of(state.manifest, job.loaded.model), size)
    writer = _Writer(SegmentWriter(spool, job.schema(state.manifest.embedding)), state)
    profiled = 0
    rows = reader.stream(start, workers, ahead=2 * size + workers)
    batches = group(
        rows,
        start=start,
        total=state.rows,
        segment_rows=state.segment_rows,
        batch_size=lambda: profiler.batch_size,
    )
    unwritten: deque[Future[None]] = deque()
    with closing(writer), closing(rows), ThreadPoolExecutor(1, "write") as pool:
        for batch in batches:
            outputs = []
            if batch.images:
                labels = torch.tensor([image.target for image in batch.images])
                outputs = profiler(reader.inputs(batch.images), labels)
            unwritten.append(pool.submit(writer.write, batch, outputs))
            if len(unwritten) > UNWRITTEN:
                unwritten.popleft().result()
            begun = (state.manifest.batch_size, state.manifest.engine)
            if (profiler.batch_size, profiler.name) != begun:
                state = state.going_on_with(profiler.batch_size, profiler.name)
                spool.write_state(state.to_json())
                tracker.note(
                    f"out of memory or of the fast engine's reach: going on with batches of "
                    f"{profiler.batch_size} and the {profiler.name} engine"
                )
            profiled += len(batch.images)
            tracker.advance(batch.rows)
        while unwritten:
            unwritten.popleft().result()
    return profiled, state


class _Writer:
    """Takes profiled batches to the spool, in a thread of its own."""

    def __init__(self, segments: SegmentWriter, state: RunState) -> None:
        self._segments = segments
        self._classes, self._source = state.manifest.classes, state.source
        self._failed = False

    def write(self, batch: Batch, outputs: list[EngineOutput]) -> None:
        """Write a batch, unless one before it failed: a segment must not be finished without it."""
        if self._failed:
            return
        self._failed = True
        self._write(batch, outputs)
        self._failed = False

    def _write(self, batch: Batch, outputs: list[EngineOutput]) -> None:
        rejected, rows = list(batch.rejected), None
        if outputs:
            profiles = collect(outputs)
            usable = profiles.usable
            images = [image for image, fine in zip(batch.images, usable, strict=True) if fine]
            rejected += [
                Rejected(image.row.id, image.row.ref, "the model gives no finite profile for it")
                for image, fine in zip(batch.images, usable, strict=True)
                if not fine
            ]
            schema, profiles = self._segments.schema, profiles.keep(usable)
            rows = raw_records(schema, images, profiles, self._classes, self._source)
        self._segments.write(rows, rejected)
        if batch.ends_segment:
            self._segments.finish_segment()

    def close(self) -> None:
        self._segments.close()
