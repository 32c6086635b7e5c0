"""Tables 1 and 2 and the switch-off check as results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

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
        changes: samples over which the change of accuracy is averaged.
        nearest: samples next to the decision boundary that are scored for it, all of them.
        drawn: samples of the others that are drawn for it.
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
    changes: int = 10
    nearest: int = 1000
    drawn: int = 250
    share: float = 0.6
    neighbours: int = 10
    fraction: float = 0.004
    seeds: int = 10
    scored_seeds: int = 1
    lr: float = 1e-3
    lr_all: float = 1e-4
    sweep: tuple[float, ...] = (1e-4, 1e-3)

    def __post_init__(self) -> None:
        counts = (self.many, self.seeds, self.scored_seeds, self.drawn)
        least = min(self.samples, self.changes, self.nearest)
        if least < 0 or min(counts) < 1 or self.neighbours < 2:
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

    def lr_of(self, arm: str) -> float:
        """Return the step size of an arm in table 1."""
        return self.lr_all if arm == "all" else self.lr


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
class ChangeRow:
    """The change of accuracy by one arm over several samples' steps, as shares.

    Attributes:
        arm: one of `ARMS`.
        lr: step size.
        samples: number of samples.
        mean: of the change.
        low: lower end of the mean's 95 % interval (Student's t over the samples).
        high: upper end.
        smallest: change of the sample that lost most.
        largest: change of the sample that gained most.
    """

    arm: str
    lr: float
    samples: int
    mean: float
    low: float
    high: float
    smallest: float
    largest: float


def change_row(arm: str, lr: float, changes: Sequence[float]) -> ChangeRow:
    """Summarize the changes of accuracy of one or more samples; of one there is no interval."""
    from scipy.stats import t as student

    mean, count = float(np.mean(changes)), len(changes)
    half = 0.0
    if count > 1:
        half = float(student.ppf(0.975, count - 1) * np.std(changes, ddof=1) / count**0.5)
    return ChangeRow(arm, lr, count, mean, mean - half, mean + half, min(changes), max(changes))


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
        changes: ΔA of table 1 over several samples.
        switched_off: the switch-off check over as many.
    """

    settings: TableSettings
    chosen: tuple[tuple[str, str, str], ...]
    steps: tuple[StepRow, ...]
    sweep: tuple[StepRow, ...]
    many: tuple[StepRow, ...]
    changes: tuple[ChangeRow, ...]
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
        changed = "\n".join(_change_line(row) for row in self.changes)
        scored = self.changes[0].samples if self.changes else 0
        shown = (
            f"K of {group} corrected (itself included), ΔA in points\n\n"
            f"{head}\n{_grid(self.steps)}\n\nStep sizes\n\n{head}\n{_grid(self.sweep)}\n\n"
        )
        return (
            f"{shown if self.chosen else ''}"
            f"Mean K over {count} samples\n\n| filters, step size | K |\n|---|---|\n{many}\n\n"
            f"ΔA in points over {scored} samples\n\n| filters, step size | mean (95 %) | range |\n"
            f"|---|---|---|\n{changed}\n\n"
            f"Filters set to zero, mean over {count} samples\n\n"
            f"| filters | change of the sample's loss | corrected |\n|---|---|---|\n{off}\n"
        )


def _change_line(row: ChangeRow) -> str:
    mean, low, high = 100 * row.mean, 100 * row.low, 100 * row.high
    return (
        f"| {row.arm}, {row.lr:g} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) "
        f"| {100 * row.smallest:+.2f} to {100 * row.largest:+.2f} |"
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
