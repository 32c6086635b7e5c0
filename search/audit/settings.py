"""What an audit looks for, and how much of it is kept."""

from dataclasses import dataclass

from indexer.errors import SettingError

from ..outdated import CAUSES, FILTERS

LABELS = "labels"
DUPLICATES = "duplicates"
KINDS = (LABELS, DUPLICATES, CAUSES, FILTERS)
LEAKS = "leaks"
"""Images that another index holds too; looked for beside duplicates where that index is given."""
CLEANLAB = "cleanlab"
"""What cleanlab finds beyond these; only where it is asked for, since it is an extra."""
IMAGES = "images"
"""What cleanlab's image checks (cleanvision) find beyond these; part of the same extra."""
EXTRAS = (CLEANLAB, IMAGES)
TITLES = {
    LABELS: "Wrong labels",
    DUPLICATES: "Duplicates",
    LEAKS: "Leaks",
    CAUSES: "Causes",
    FILTERS: "Weak filters",
    CLEANLAB: "cleanlab",
    IMAGES: "Image checks",
}
"""By kind; a kind that is not here, of a later version, is shown by its name."""


@dataclass(frozen=True)
class AuditSettings:
    """Settings of `audit`.

    Attributes:
        kinds: which of `KINDS` to look for; `EXTRAS` as well where they are installed.
        top: findings kept of each kind.
        neighbours: neighbours that vote on the label of a suspect.
        similarity: correlation of two thumbnails, in 0..1, from which on they are duplicates.
        false_discovery: share of the reported causes that may be chance (Benjamini and
            Hochberg 1995).
        effect: least effect size of a reported cause, in 0..1; see `causes`.
    """

    kinds: tuple[str, ...] = KINDS
    top: int = 100
    neighbours: int = 50
    similarity: float = 0.95
    false_discovery: float = 0.01
    effect: float = 0.3

    def __post_init__(self) -> None:
        known = ", ".join((*KINDS, *EXTRAS))
        if unknown := [kind for kind in self.kinds if kind not in (*KINDS, *EXTRAS)]:
            raise SettingError(f"no kind of finding {unknown[0]!r}: choose {known}")
        if len(set(self.kinds)) < len(self.kinds):
            raise SettingError(f"a kind of finding is given twice: {', '.join(self.kinds)}")
        if not self.kinds:
            raise SettingError(f"no kind of finding given: choose {known}")
        for name in ("top", "neighbours"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}: give at least 1")
        for name in ("similarity", "false_discovery", "effect"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingError(f"{name} is {getattr(self, name)}: give a number in (0, 1]")


def title_of(kind: str) -> str:
    """Return how a kind of finding is headed."""
    return TITLES.get(kind, kind)
