"""Tables 1 and 2 and the switch-off check as results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from indexer.errors import SettingError

ARMS = ("salient", "random", "least", "all")
PLAIN = "salient, plain gradient step"
"""The salient arm with a step of gradient descent in place of Adam's."""


@dataclass(frozen=True)
class TableSettings:
    """What the tables measure.

    Attributes:
        samples: samples shown, each of another (label, prediction) pair; the whole index is
            scored for each. May be 0.
        many: samples over which K and the switch-off check are averaged.
        share: least share of a chosen sample's neighbours that have its pair.
        neighbours: size of the group, the sample itself included.
        fraction: share of the filters in the arms other than "all".
        seeds: draws of random filters.
        scored_seeds: draws of random filters that the whole index is scored under.
        lr: step size of table 1; "all" takes `lr_all`.
        lr_all: step size of all filters in table 1.
        sweep: step sizes of table 2.
    """

    samples: int = 3
    many: int = 50
    share: float = 0.6
    neighbours: int = 10
    fraction: float = 0.004
    seeds: int = 10
    scored_seeds: int = 1
    lr: float = 1e-3
    lr_all: float = 1e-4
    sweep: tuple[float, ...] = (1e-4, 1e-3)

    def __post_init__(self) -> None:
        counts = (self.many, self.seeds, self.scored_seeds)
        if self.samples < 0 or min(counts) < 1 or self.neighbours < 2:
            raise SettingError(
                f"tables need at least 1 sample, 1 draw and a group of 2: got {counts} "
                f"and {self.neighbours}"
            )
        if not (0 <= self.share <= 1 and 0 < self.fraction <= 1):
            raise SettingError(
                f"share {self.share} is not in [0, 1] or fraction {self.fraction} not in (0, 1]"
            )
        if not all(lr > 0 for lr in (self.lr, self.lr_all, *self.sweep)):
            raise SettingError("a step size is not above 0")


@dataclass(frozen=True)
class StepRow:
    """One arm at one step size: means over random draws, and over samples where there are many.

    Attributes:
        sample: id, or "mean of N".
        arm: one of `ARMS`, or `PLAIN`.
        lr: step size.
        neighbours_corrected: K.
        accuracy_change: ΔA as a share; None where the whole index was not scored.
    """

    sample: str
    arm: str
    lr: float
    neighbours_corrected: float
    accuracy_change: float | None


@dataclass(frozen=True)
class SwitchOffRow:
    """What zeroing an arm's filters does to the samples they were chosen for.

    Attributes:
        arm: "salient", "random" or "least".
        samples: number of samples.
        loss_change: mean change of a sample's own cross-entropy, in nats.
        corrected: share of the samples that become right.
    """

    arm: str
    samples: int
    loss_change: float
    corrected: float


@dataclass(frozen=True)
class RepairTables:
    """Tables 1 and 2 and the switch-off check.

    Attributes:
        settings: what was measured.
        chosen: id, label and prediction of the samples shown.
        steps: table 1 for each sample shown.
        sweep: table 2: arms "salient" and "all" at each step size.
        many: K of table 1 over many samples.
        switched_off: the switch-off check over as many.
    """

    settings: TableSettings
    chosen: tuple[tuple[str, str, str], ...]
    steps: tuple[StepRow, ...]
    sweep: tuple[StepRow, ...]
    many: tuple[StepRow, ...]
    switched_off: tuple[SwitchOffRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Return the tables as Markdown."""
        group = self.settings.neighbours
        names = [f"{label} → {prediction}" for _, label, prediction in self.chosen]
        head = f"| filters, step size | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
        many = "\n".join(
            f"| {row.arm}, {row.lr:g} | {row.neighbours_corrected:.2f} |" for row in self.many
        )
        off = "\n".join(
            f"| {row.arm} | {row.loss_change:+.3f} | {100 * row.corrected:.0f} % |"
            for row in self.switched_off
        )
        count = self.switched_off[0].samples if self.switched_off else 0
        shown = (
            f"K of {group} corrected (itself included), ΔA in points\n\n"
            f"{head}\n{_grid(self.steps)}\n\nStep sizes\n\n{head}\n{_grid(self.sweep)}\n\n"
        )
        return (
            f"{shown if self.chosen else ''}"
            f"Mean K over {count} samples\n\n| filters, step size | K |\n|---|---|\n{many}\n\n"
            f"Filters set to zero, mean over {count} samples\n\n"
            f"| filters | change of the sample's loss | corrected |\n|---|---|---|\n{off}\n"
        )


def _grid(rows: Sequence[StepRow]) -> str:
    """Return Markdown lines: one for each arm and step size, one cell for each sample."""
    lines: dict[tuple[str, float], list[str]] = {}
    for row in rows:
        change = "" if row.accuracy_change is None else f", {100 * row.accuracy_change:+.2f}"
        cell = f"{row.neighbours_corrected:g}{change}"
        lines.setdefault((row.arm, row.lr), []).append(cell)
    order = sorted(lines, key=lambda key: (ARMS.index(key[0]), key[1]))
    return "\n".join(f"| {a}, {lr:g} | {' | '.join(lines[a, lr])} |" for a, lr in order)
