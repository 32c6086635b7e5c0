"""Large indexes whose profiles are made of real ones, so that neighbours stay neighbours.

A made sample mixes two real samples of the same (label, prediction) pair, at a random share, and
multiplies every filter by log-normal noise (sigma 0.35). Where more filters are wanted than the
real profiles have, further blocks repeat them in a shuffled order with noise of their own. Norms,
heavy tails, the common component and the clusters of confusions are those of the real set; what is
lost is any structure that only more filters or more classes would bring.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexer.filters import FilterLayout, Layer
from indexer.schema import HEAVY, PROFILE, THUMBNAIL
from indexer.store import Store

SIGMA = 0.35
_POOL = 1 << 22
_BATCH = 512


def made_store(
    source: Store,
    path: Path,
    rows: int,
    units: int,
    dtype: str = "float32",
    seed: int = 0,
    *,
    pictures: bool = False,
) -> Store:
    """Write an index of made samples in the manner of `source`, and return it.

    Args:
        source: a real index.
        path: folder of the new one.
        rows: samples to make.
        units: filters of each.
        dtype: "float32" or "float16", as profiles are stored.
        seed: of the mixing.
        pictures: give each sample the thumbnail of the first of its two.
    """
    old = source.manifest
    schema = source.table("samples").schema
    light = [name for name in schema.names if name not in HEAVY]
    light += [THUMBNAIL] if pictures else []
    fields = [schema.field(name) for name in light]
    wanted = pa.schema([*fields, _profiles_field(units, dtype)])
    real = source.read([*light, PROFILE]).combine_chunks()
    store = Store.create(path)
    batches = _batches(real, light, wanted, rows, units, np.random.default_rng(seed))
    store.create_samples(pa.RecordBatchReader.from_batches(wanted, batches))
    layout = FilterLayout((Layer("made", "made.weight", "conv", 0, units, 1),))
    store.publish(replace(old, layout=layout, embedding=None, profile_dtype=dtype))
    return store


def _profiles_field(units: int, dtype: str) -> pa.Field:
    return pa.field(PROFILE, pa.list_(pa.from_numpy_dtype(dtype), units))


def _batches(
    real: pa.Table,
    light: list[str],
    schema: pa.Schema,
    rows: int,
    units: int,
    random: np.random.Generator,
) -> Iterator[pa.RecordBatch]:
    chunk = real[PROFILE].chunk(0)
    profiles = chunk.flatten().to_numpy().reshape(len(real), -1).astype(np.float32)
    label, prediction = (real[name].to_numpy() for name in ("label", "prediction"))
    partners = _partners(label * (prediction.max() + 1) + prediction, random)
    order = np.concatenate(
        [random.permutation(profiles.shape[1]) for _ in range(-(-units // profiles.shape[1]))]
    )[:units]
    pool = np.exp(SIGMA * random.standard_normal(_POOL)).astype(np.float32)
    for first in range(0, rows, _BATCH):
        numbers = np.arange(first, min(first + _BATCH, rows))
        base = numbers % len(real)
        share = random.random((len(base), 1), dtype=np.float32)
        mixed = share * profiles[base] + (1 - share) * profiles[partners(base)]
        made = mixed[:, order]
        for row in made:
            at = int(random.integers(0, _POOL - units))
            row *= pool[at : at + units]
        table = real.select(light).take(pa.array(base))
        names = pa.array([f"m{number}" for number in numbers])
        values = made.ravel().astype(schema.field(PROFILE).type.value_type.to_pandas_dtype())
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values), units)
        columns = [names, *(table[name].combine_chunks() for name in light[1:]), flat]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _partners(pairs: np.ndarray, random: np.random.Generator):
    """Return a function that draws, for rows, other rows of the same pair."""
    order = np.argsort(pairs, kind="stable")
    starts = np.searchsorted(pairs[order], pairs)
    counts = np.bincount(pairs, minlength=pairs.max() + 1)[pairs]

    def draw(rows: np.ndarray) -> np.ndarray:
        return order[starts[rows] + random.integers(0, counts[rows])]

    return draw
