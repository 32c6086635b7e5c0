"""An index made of given arrays: for tests that plant structure in profiles or images."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexer.filters import FilterLayout, Layer
from indexer.manifest import Manifest
from indexer.schema import samples_schema
from indexer.scoring import score
from indexer.statistics import RunningStatistics, pack_signs, standardize
from indexer.store import Store


def even_layout(units: int, layers: int = 2) -> FilterLayout:
    """Return a layout of equally wide conv layers block0, block1 and so on."""
    width = units // layers
    names = [f"block{i}" for i in range(layers)]
    return FilterLayout(
        tuple(Layer(n, f"{n}.weight", "conv", i * width, width, 9) for i, n in enumerate(names))
    )


def index_of_arrays(
    path: Path,
    *,
    raw: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    embeddings: np.ndarray | None = None,
    thumbnails: Sequence[bytes] | None = None,
    layout: FilterLayout | None = None,
    metadata: Mapping[str, Sequence[str | float | datetime]] | None = None,
    size: tuple[int, int] = (32, 32),
    ids: Sequence[str] | None = None,
    sources: Sequence[int] | None = None,
) -> Store:
    """Make a finished index of raw profiles [n, F], logits [n, C], labels [n]; ids r0 and on."""
    n, units = raw.shape
    statistics = RunningStatistics(units)
    statistics.update(raw)
    known = statistics.result()
    extra = {f"meta_{name}": pa.array(values) for name, values in (metadata or {}).items()}
    schema = samples_schema(
        units=units,
        classes=len(names),
        embedding=None if embeddings is None else embeddings.shape[1],
        metadata=pa.schema([pa.field(name, column.type) for name, column in extra.items()]),
    )
    scores = vars(score(logits, labels))
    values = {
        "id": list(ids or [f"r{row}" for row in range(n)]),
        "source": np.array(sources or [0] * n, np.int32),
        "ref": [str(row) for row in range(n)],
        "label": labels.astype(np.int32),
        "label_name": [names[label] for label in labels],
        "prediction_name": [names[label] for label in scores["prediction"]],
        "width": np.full(n, size[0], np.int32),
        "height": np.full(n, size[1], np.int32),
        "thumbnail": thumbnails or [b""] * n,
        "logits": _rows(logits),
        "signs": [row.tobytes() for row in pack_signs(raw, known)],
        "profile": _rows(standardize(raw, known)),
        **extra,
        **{k: v.tolist() if v.ndim > 1 else v for k, v in scores.items()},
    }
    if embeddings is not None:
        values["embedding"] = _rows(embeddings)
    columns = [pa.array(values[field.name], field.type) for field in schema]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    store = Store.create(path)
    store.create_samples(pa.RecordBatchReader.from_batches(schema, [batch]))
    manifest = Manifest(
        model={"spec": "arrays", "architecture": "arrays", "weights_digest": "0" * 64},
        transform={"input_size": [3, *size]},
        classes=tuple(names),
        units="conv",
        aggregation="filter",
        signed=False,
        precision="fp32",
        profile_dtype="float32",
        layout=layout or even_layout(units),
        sources=({"kind": "folder", "path": "arrays", "fingerprint": "0"},),
        batch_size=n,
        embedding=None if embeddings is None else embeddings.shape[1],
    )
    store.publish(manifest, known)
    return store


def _rows(matrix: np.ndarray) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])
