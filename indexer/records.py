"""Rows of the samples table, in their two forms: raw in the spool, standardized in the index."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from .profiling import Profiles
from .reading import ReadImage
from .schema import EMBEDDING, ID, LOGITS, METADATA_PREFIX, PROFILE, SIGNS, THUMBNAIL
from .scoring import score
from .statistics import Statistics, pack_signs, standardize

RAW = "raw"
"""Column of the spool that holds raw profiles, where the index has profiles and signs."""

LARGEST_HALF = float(np.finfo(np.float16).max)

BLOCK_BYTES = 8 * 2**20
"""Raw profiles that are standardized at a time."""


def spool_schema(samples: pa.Schema) -> pa.Schema:
    """Return the schema of the spool for a schema of the samples table."""
    units = samples.field(PROFILE).type.list_size
    light = [field for field in samples if field.name not in (SIGNS, PROFILE)]
    return pa.schema([*light, pa.field(RAW, pa.list_(pa.float32(), units))])


def raw_records(
    schema: pa.Schema,
    images: Sequence[ReadImage],
    profiles: Profiles,
    classes: Sequence[str],
    source: int,
) -> pa.RecordBatch:
    """Return the rows of a batch as they go to the spool.

    Args:
        schema: from `spool_schema`.
        images: n usable images.
        profiles: what the model says about them.
        classes: C names by model output.
        source: number of the data set among those of the index.
    """
    labels = np.array([image.target for image in images], np.int32)
    scores = score(profiles.logits, labels)
    values = {
        ID: [image.row.id for image in images],
        "source": np.full(len(images), source, np.int32),
        "ref": [image.row.ref for image in images],
        "label": labels,
        "label_name": [classes[label] for label in labels],
        "prediction_name": [classes[prediction] for prediction in scores.prediction],
        **vars(scores),
        "top_classes": list(scores.top_classes),
        "top_probabilities": list(scores.top_probabilities),
        "width": [image.width for image in images],
        "height": [image.height for image in images],
        THUMBNAIL: [image.thumbnail for image in images],
        LOGITS: profiles.logits,
        EMBEDDING: profiles.embeddings,
        RAW: profiles.raw,
    }
    columns = []
    for field in schema:
        if field.name.startswith(METADATA_PREFIX):
            column = [image.row.metadata[field.name] for image in images]
        else:
            column = values[field.name]
        columns.append(_column(column, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def standardized_records(
    schema: pa.Schema, raw: pa.RecordBatch, statistics: Statistics, signed: bool
) -> pa.RecordBatch:
    """Return rows of the spool as rows of the samples table.

    Args:
        schema: of the samples table.
        raw: rows as in `raw_records`.
        statistics: to standardize with.
        signed: whether profiles keep their sign.
    """
    values = raw_profiles(raw)
    computed = {
        SIGNS: [row.tobytes() for row in pack_signs(values, statistics)],
        PROFILE: standardize(values, statistics, signed),
    }
    columns = [
        _column(computed[field.name], field.type) if field.name in computed else raw[field.name]
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def raw_profiles(batch: pa.RecordBatch) -> np.ndarray:
    """Return the raw profiles of spooled rows without a copy, float32 [n, F]."""
    return batch[RAW].flatten().to_numpy().reshape(len(batch), -1)


def block_rows(units: int) -> int:
    """Return how many rows are standardized at a time: bounded memory for any F."""
    return max(1, BLOCK_BYTES // (4 * units))


def regroup(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Cut a stream into batches of `rows` rows each (the last may be shorter).

    Lance has hung on scans of wide columns that were written in uneven batches (lance#7580).
    """
    kept: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while count + len(batch) >= rows:
            head, batch = batch.slice(0, rows - count), batch.slice(rows - count)
            yield pa.concat_batches([*kept, head])
            kept, count = [], 0
        if len(batch):
            kept.append(batch)
            count += len(batch)
    if kept:
        yield pa.concat_batches(kept)


def _column(values: object, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind) and isinstance(values, np.ndarray):
        if pa.types.is_float16(kind.value_type):
            # Of added data a unit may be that far off; an infinity would have no cosine.
            values = values.clip(-LARGEST_HALF, LARGEST_HALF)
        flat = np.ascontiguousarray(values, kind.value_type.to_pandas_dtype()).ravel()
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)
    return pa.array(values, kind)
