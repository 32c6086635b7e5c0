"""The failures of one version in bytes, kept beside the table as files of the cache."""

import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np

from . import cache
from .coarse import Coarse, coarsen
from .column import Column
from .products import blocks

VALUES_FILE = "failures.bytes"
SCALES_FILE = "failures.npy"


def read_coarse(folder: Path, positions: np.ndarray, width: int, signed: bool) -> Coarse | None:
    """Return coarse profiles from a folder of the cache, mapped; None where they are not there.

    Args:
        folder: of the version.
        positions: rows of the column that they must be of, int64 [n].
        width: F.
        signed: whether profiles have signs.
    """
    file, shape = folder / VALUES_FILE, (len(positions), width)
    try:
        scales = np.load(folder / SCALES_FILE, allow_pickle=False)
        if scales.shape != (2, len(positions)) or file.stat().st_size != shape[0] * shape[1]:
            return None
        values = np.asarray(np.memmap(file, np.int8 if signed else np.uint8, "r", 0, shape))
    except (OSError, ValueError, EOFError):
        return None
    return Coarse(positions, values, scales)


def write_coarse(
    folder: Path, column: Column, norms: np.ndarray, positions: np.ndarray, signed: bool
) -> bool:
    """Write coarse profiles to a folder of the cache, which must be within the database.

    Args:
        folder: of the version.
        column: all profiles.
        norms: of all profiles, float64 [N].
        positions: rows to write, int64 [n], ascending.
        signed: whether profiles have signs.

    Returns:
        Whether they are there now. A disk that they would fill by more than half is left alone.
    """
    if shutil.disk_usage(folder.parents[1]).free < 2 * len(positions) * column.width:
        return False
    scales = np.empty((2, len(positions)), np.float32)

    def fill(file: BinaryIO) -> None:
        for places, rows in blocks(column, positions):
            values, scales[:, places] = coarsen(rows, norms[positions[places]], signed)
            file.write(values.data)

    return cache.write(folder / VALUES_FILE, fill) and cache.write(
        folder / SCALES_FILE, lambda file: np.save(file, scales)
    )
