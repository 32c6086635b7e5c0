"""New profiles of an index under a repaired model: an extra pass, made on request."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from indexer.durability import disk_errors, replace_path
from indexer.profiling import Profiler, collect, engine_of
from indexer.progress import Progress, silent
from indexer.schema import REPAIRS
from indexer.statistics import standardize
from indexer.store import Store

from .patch import read_patch
from .population import Population, open_population
from .records import read_repair

PROFILES_FILE = "profiles.parquet"
BATCH = 64


def reprofile(
    store: Store,
    repair_id: str,
    *,
    whole_index: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> Path:
    """Profile samples under a recorded repair and keep the result beside it.

    Profiles are standardized with the statistics of the index, so that they can be compared with
    the stored ones. Memory holds one batch.

    Args:
        store: the index; its table stays as it is.
        repair_id: a repair that has a patch.
        whole_index: all samples instead of those that the repair affected.
        device: where the model runs.
        progress: how the work is shown.

    Returns:
        A parquet file with the columns id, prediction and profile (float32 [F]).

    Raises:
        UnknownSampleError: no such repair.
        ModelError: the repair found nothing and has no patch.
    """
    report, samples = read_repair(store, repair_id)
    population, _ = open_population(store, device)
    ids = list(population.ids) if whole_index else samples["id"].to_pylist()
    path = store.path / REPAIRS / repair_id / PROFILES_FILE
    patch = read_patch(report["patch"] or "")
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("prediction", pa.int32()),
            pa.field("profile", pa.list_(pa.float32(), len(population.layout))),
        ]
    )
    rows = population.rows(ids)
    with (
        patch.edit.applied(population.model),
        disk_errors(path),
        replace_path(path) as partial,
        pq.ParquetWriter(partial, schema) as writer,
        progress("Profiling again", len(rows), 0) as tracker,
    ):
        for batch in _profiles(store, population, rows):
            writer.write_table(pa.table(batch, schema=schema))
            tracker.advance(len(batch["id"]))
    return path


def _profiles(
    store: Store, population: Population, rows: np.ndarray
) -> Iterator[dict[str, list | np.ndarray]]:
    manifest = store.manifest
    profiler = Profiler(engine_of(manifest, population.model), BATCH)
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        labels = torch.from_numpy(population.labels[chosen])
        found = collect(profiler(population.inputs.batch(chosen), labels))
        yield {
            "id": [population.ids[row] for row in chosen],
            "prediction": found.logits.argmax(1).astype(np.int32),
            "profile": list(standardize(found.raw, store.statistics, manifest.signed)),
        }
