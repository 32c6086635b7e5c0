"""Scores of raw profiles that are differentiated by the image (section 2.2 of the paper).

Both are cosine distances between standardized profiles: to the profile's own boosted version,
which shows the pixels that drive its most salient units, and to a given profile, which is
minimized to recover an image from it. They compute in float64, because a distance near 0 is the
difference of two numbers near 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingError
from ..statistics import Statistics


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Differentiable standardization with the stored statistics: |z|, or z where signed.

    Attributes:
        mean: float64 [F].
        deviation: float64 [F], positive.
        signed: whether the index keeps the sign of z.
    """

    mean: Tensor
    deviation: Tensor
    signed: bool = False

    @classmethod
    def of(
        cls, statistics: Statistics, signed: bool, device: str | torch.device = "cpu"
    ) -> "Standardizer":
        """Put the statistics of an index on a device."""
        return cls(
            torch.from_numpy(statistics.mean).to(device),
            torch.from_numpy(statistics.deviation).to(device),
            signed,
        )

    def __call__(self, raw: Tensor) -> Tensor:
        """Standardize raw profiles [B, F]; returns float64."""
        z = (raw.double() - self.mean) / self.deviation
        return z if self.signed else z.abs()


TOP = 10
"""Entries of a profile that are boosted unless told otherwise."""


def boosted_entries(top: int | None, units: int) -> int:
    """Return how many entries of a profile to boost: `top`, or 10 and fewer of a short profile.

    One entry at least stays as it is: boosting all only lengthens a profile.

    Raises:
        SettingError: `top` is out of range, or there is only one unit.
    """
    if units < 2:
        raise SettingError(
            "a profile of a single unit stands for nothing in particular: index with more units"
        )
    if top is None:
        return min(TOP, units - 1)
    if not 0 < top < units:
        raise SettingError(f"top {top}: boost between 1 and {units - 1} of the {units} units")
    return top


def boosted_distance(
    standardize: Standardizer,
    *,
    top: int | None = None,
    boost: float = 100.0,
    columns: Sequence[int] | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return the distance of a profile to itself with its most salient units boosted.

    The boosted profile is a constant of the derivative, as in the paper's published code.

    Args:
        standardize: turns raw profiles into stored ones.
        top: how many of the largest entries are boosted, see `boosted_entries`.
        boost: their factor.
        columns: units to boost in place of the largest.

    Raises:
        SettingError: no unit to boost, more than there are, or a boost of 1 or less.
    """
    units = len(standardize.mean)
    count = boosted_entries(top, units) if columns is None else 0
    if columns is not None and not (columns and 0 <= min(columns) <= max(columns) < units):
        raise SettingError(f"columns {columns}: give one or more of 0 to {units - 1}")
    if not boost > 1:
        raise SettingError(f"boost {boost}: give a factor above 1")

    def distance(raw: Tensor) -> Tensor:
        profile = standardize(raw)
        target = profile.detach().clone()
        chosen = (
            target.topk(count, dim=1).indices
            if columns is None
            else torch.tensor(columns, device=raw.device).expand(len(raw), -1)
        )
        target.scatter_(1, chosen, target.gather(1, chosen) * boost)
        return 1 - F.cosine_similarity(profile, target, dim=1)

    return distance


def matching_distance(standardize: Standardizer, target: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the cosine distance of profiles to given standardized ones.

    Args:
        standardize: turns raw profiles into stored ones.
        target: standardized profiles, [B, F] or [1, F].
    """
    target = target.detach().double()
    return lambda raw: 1 - F.cosine_similarity(standardize(raw), target, dim=1)
