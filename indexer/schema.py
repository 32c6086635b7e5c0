"""Names of tables and columns, and the Arrow schema of a stored sample.

Vocabulary used throughout: N samples, F units (filters or linear rows, or layers where profiles
are aggregated layer-wise), C classes, E embedding dimensions.
"""

import pyarrow as pa

SCHEMA_VERSION = 1
METRIC = "cosine"

SAMPLES = "samples"
REJECTS = "rejects"
MODES = "modes"
REPAIRS = "repairs"
FINDINGS = "findings"
DECISIONS = "decisions"

ANN_REPORT = "ann.json"
"""File beside the tables: what was measured of the approximate index."""

ID = "id"
PROFILE = "profile"
SIGNS = "signs"
EMBEDDING = "embedding"
LOGITS = "logits"
THUMBNAIL = "thumbnail"
METADATA_PREFIX = "meta_"
"""Columns that came with the data set are stored under this prefix, so they never shadow ours."""

HEAVY = (PROFILE, SIGNS, EMBEDDING, LOGITS, THUMBNAIL)
"""Columns that a listing of samples does not read."""


def samples_schema(
    *,
    units: int,
    classes: int,
    embedding: int | None,
    metadata: pa.Schema | None = None,
    profile_dtype: str = "float32",
) -> pa.Schema:
    """Return the schema of the samples table.

    Args:
        units: F, length of a profile.
        classes: C, length of a row of logits.
        embedding: E, length of a penultimate embedding; None where the model exposes none.
        metadata: columns of the data set, already prefixed with `meta_`.
        profile_dtype: "float32" or "float16".
    """
    profile = {"float32": pa.float32(), "float16": pa.float16()}[profile_dtype]
    fields = [
        pa.field(ID, pa.string(), nullable=False),
        pa.field("source", pa.int32()),  # which of the manifest's sources it came from
        pa.field("ref", pa.string()),  # where in that source: a relative path or a row number
        pa.field("label", pa.int32()),
        pa.field("prediction", pa.int32()),
        pa.field("label_name", pa.string()),
        pa.field("prediction_name", pa.string()),
        pa.field("correct", pa.bool_()),
        pa.field("confidence", pa.float32()),  # probability of the prediction
        pa.field("label_probability", pa.float32()),
        pa.field("loss", pa.float32()),  # cross-entropy in nats
        pa.field("margin", pa.float32()),  # p(label) - max over other classes of p, in [-1, 1]
        pa.field("entropy", pa.float32()),  # of the predicted distribution, in nats
        pa.field("top_classes", pa.list_(pa.int32())),
        pa.field("top_probabilities", pa.list_(pa.float32())),
        pa.field("width", pa.int32()),  # of the original image, in pixels
        pa.field("height", pa.int32()),
        *(metadata or ()),
        pa.field(THUMBNAIL, pa.large_binary()),
        pa.field(LOGITS, pa.list_(pa.float32(), classes)),
    ]
    if embedding is not None:
        fields.append(pa.field(EMBEDDING, pa.list_(pa.float32(), embedding)))
    # |z| loses its sign; one bit per unit keeps the raw profile recoverable (see statistics.py).
    fields.append(pa.field(SIGNS, pa.binary()))
    fields.append(pa.field(PROFILE, pa.list_(profile, units)))
    return pa.schema(fields)


REJECTS_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.string(), nullable=False),
        pa.field("source", pa.int32()),
        pa.field("ref", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
