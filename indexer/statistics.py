"""Mean and deviation of raw profiles over a data set, and what is done with them.

Sums run in float64 and merge pairwise (Chan, Golub & LeVeque 1983), so the statistics of a set
are those of its parts in whatever sizes it arrived. No torch here: search standardizes too.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .durability import replace_file
from .errors import StoreError

SMALLEST_DEVIATION = 1e-14
"""Deviations up to here count as 1, as in the published code: the unit never saw a gradient."""

SCRATCH_BYTES = 2**19
"""float64 values in work at a time: they stay in a core's cache."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and deviation per unit, float64 [F], over `count` samples; validated."""

    mean: np.ndarray
    deviation: np.ndarray
    count: int

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.deviation.shape:
            raise ValueError(f"shapes {self.mean.shape} and {self.deviation.shape} differ")
        if self.count < 1 or not (np.isfinite(self.mean).all() and (self.deviation > 0).all()):
            raise ValueError("statistics need samples, finite means and positive deviations")

    def save(self, path: Path) -> None:
        """Write the statistics to an .npz file, atomically and synced."""
        with replace_file(path) as file:
            np.savez(file, mean=self.mean, deviation=self.deviation, count=self.count)

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Read statistics written by `save`; raises StoreError where they are unreadable."""
        try:
            # From memory: of a torn archive numpy would leave the file open.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return cls(file["mean"], file["deviation"], int(file["count"]))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise StoreError(f"statistics in {path} are unreadable ({error})") from error


class RunningStatistics:
    """Streaming mean and sum of squared deviations per unit.

    Attributes:
        count: samples seen.
        mean: float64 [F].
        m2: float64 [F], sum of squared deviations from the mean.
    """

    def __init__(self, units: int) -> None:
        self.count = 0
        self.mean = np.zeros(units)
        self.m2 = np.zeros(units)

    def update(self, block: np.ndarray) -> None:
        """Add raw profiles [n, F] of any float type."""
        if not len(block):
            return
        wide = block.astype(np.float64)
        mean = wide.mean(axis=0)
        wide -= mean
        self._combine(len(block), mean, np.einsum("nf,nf->f", wide, wide))

    def merge(self, other: "RunningStatistics") -> None:
        """Add the samples of another accumulator."""
        if other.count:
            self._combine(other.count, other.mean, other.m2)

    def _combine(self, count: int, mean: np.ndarray, m2: np.ndarray) -> None:
        total = self.count + count
        step = mean - self.mean
        self.mean = self.mean + step * (count / total)
        self.m2 = self.m2 + m2 + step**2 * (self.count * count / total)
        self.count = total

    @property
    def deviation(self) -> np.ndarray:
        """Unbiased standard deviation, float64 [F]; 1 where it is not above 1e-14."""
        deviation = np.sqrt(self.m2 / max(self.count - 1, 1))
        return np.where(deviation > SMALLEST_DEVIATION, deviation, 1.0)

    def result(self) -> Statistics:
        """Return the statistics of everything seen so far (at least one sample)."""
        return Statistics(self.mean, self.deviation, self.count)


def standardize(raw: np.ndarray, statistics: Statistics, signed: bool = False) -> np.ndarray:
    """Standardize raw profiles: z = (raw - mean) / deviation (equation 2 of the paper).

    Args:
        raw: float32 [n, F].
        statistics: over the data set.
        signed: keep the sign of z, as the published code does; else |z|, as the paper has it.

    Returns:
        float32 [n, F], rounded once from float64.
    """
    profiles = np.empty(raw.shape, np.float32)
    scratch = np.empty((max(1, SCRATCH_BYTES // (8 * raw.shape[1])), raw.shape[1]))
    for start in range(0, len(raw), len(scratch)):
        part = raw[start : start + len(scratch)]
        z = np.subtract(part, statistics.mean, out=scratch[: len(part)])
        z /= statistics.deviation
        profiles[start : start + len(part)] = z if signed else np.abs(z, out=z)
    return profiles


def pack_signs(raw: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Return one bit per unit, set where raw < mean: uint8 [n, ceil(F / 8)]."""
    return np.packbits(raw < statistics.mean, axis=1)
