"""Arrow to numpy and back by their buffers.

pyarrow's own conversions import pandas wherever it is installed, which takes longer than a whole
search from the command line.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def integers(values: np.ndarray) -> pa.Int64Array:
    """Return positions as an Arrow array of int64."""
    data = pa.py_buffer(np.ascontiguousarray(values, np.int64))
    return pa.Int64Array.from_buffers(pa.int64(), len(values), [None, data])


def strings(values: Sequence[str]) -> pa.StringArray:
    """Return texts as an Arrow array of strings."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(
        len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    )


def numbers(values: pa.Array | pa.ChunkedArray, dtype: type[np.generic]) -> np.ndarray:
    """Return the integers or floats of an array without nulls, as `dtype` (their own type)."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def dense(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column of fixed-size lists as float32 [rows, length].

    Where it holds float32 the memory is Arrow's own, and read-only.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size).astype(np.float32, copy=False)


def marked(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the positions where an array of booleans is true: int64, ascending."""
    return numbers(pc.indices_nonzero(values), np.uint64).astype(np.int64)
