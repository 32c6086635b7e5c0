"""What a grouping into modes depends on."""

from dataclasses import asdict, dataclass
from typing import Any

from indexer.errors import SettingError

TRANSFORMS = ("identity", "log", "rank", "peaks")


@dataclass(frozen=True)
class ModeSettings:
    """Settings of `find_modes`; two runs with equal settings give the same modes.

    Attributes:
        embedding_weight: share of the embeddings in the similarity of two failures, in 0..1; the
            rest is the profiles'. Without effect in an index without embeddings.
        transform: how profile entries are tempered before they are compared: "identity" takes
            them as stored, "log" sign(z)·log(1+|z|), "rank" their rank within the profile, "peaks"
            the excess over each filter's 90 % quantile (peaks over threshold, arXiv 2310.17951).
        balance_layers: give every layer the same energy, so that deep layers do not outweigh
            shallow ones by their number of filters.
        dimensions: principal directions that are kept of the failures' profiles, and of their
            embeddings.
        neighbours: neighbours of each failure in the graph that is cut into modes.
        resolution: of the cut; higher gives more and smaller modes. Among fewer than 1,000
            failures it is lowered in proportion, at most to 1, so that a cause is not torn apart.
        min_size: failures a mode has at least; smaller groups stay ungrouped.
        min_support: share of a failure's graph weight that must lie within its own mode, in
            0..1; a failure below stays ungrouped.
        exemplars: diverse members shown of a mode.
        at_risk: correct samples shown of a mode.
        filters: shared filters shown of a mode.
        seed: of every random choice.
    """

    embedding_weight: float = 0.6
    transform: str = "log"
    balance_layers: bool = True
    dimensions: int = 128
    neighbours: int = 10
    resolution: float = 5.0
    min_size: int = 8
    min_support: float = 0.35
    exemplars: int = 6
    at_risk: int = 6
    filters: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise SettingError(
                f"no transform {self.transform!r} of profiles: choose {', '.join(TRANSFORMS)}"
            )
        least = {"dimensions": 2, "neighbours": 1, "min_size": 2}
        for name in ("dimensions", "neighbours", "min_size", "exemplars", "at_risk", "filters"):
            if getattr(self, name) < least.get(name, 0):
                raise SettingError(
                    f"{name} of modes is {getattr(self, name)}: at least {least.get(name, 0)}"
                )
        if not self.resolution > 0:
            raise SettingError(f"resolution of modes is {self.resolution}: give a number above 0")
        for name in ("embedding_weight", "min_support"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(
                    f"{name} of modes is {getattr(self, name)}: give a share in 0..1"
                )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; `ModeSettings(**document)` rebuilds the settings."""
        return asdict(self)
