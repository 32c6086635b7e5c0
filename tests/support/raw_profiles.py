"""Raw profiles from what an index stores, to show that standardizing loses nothing."""

import numpy as np

from indexer.statistics import Statistics


def recover_raw(
    profiles: np.ndarray, signs: np.ndarray, statistics: Statistics, signed: bool = False
) -> np.ndarray:
    """Undo `standardize`: raw = mean + z * deviation, float32 [n, F].

    Args:
        profiles: standardized, [n, F].
        signs: from `pack_signs`, uint8 [n, ceil(F / 8)]; not read where profiles are signed.
        statistics: those the profiles were standardized with.
        signed: whether profiles keep the sign of z.

    Returns:
        Raw profiles, exact up to the rounding of the stored ones; never negative.
    """
    z = profiles.astype(np.float64)
    if not signed:
        below = np.unpackbits(signs, axis=1, count=z.shape[1]).astype(bool)
        np.negative(z, out=z, where=below)
    return np.maximum(statistics.mean + z * statistics.deviation, 0).astype(np.float32)
