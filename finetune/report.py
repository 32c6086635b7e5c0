"""Results of a repair: validated, immutable, ready for JSON, Arrow, pandas and notebooks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .records import SAMPLE_SCHEMA
from .settings import RepairSettings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """What one edit did to the group it was made for and to the whole index.

    Attributes:
        weights: scalar weights that were free to change.
        neighbours_corrected: members of the group that are right afterwards.
        fixed: samples of the index that were wrong and are right.
        broken: samples of the index that were right and are wrong.
        accuracy_before: share of the index, in 0..1.
        accuracy_after: likewise, under the edit.
    """

    weights: int
    neighbours_corrected: int
    fixed: int
    broken: int
    accuracy_before: float
    accuracy_after: float

    @property
    def accuracy_change(self) -> float:
        """Accuracy after minus before, as a share."""
        return self.accuracy_after - self.accuracy_before

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "accuracy_change": self.accuracy_change}


def outcome(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    group: np.ndarray,
    weights: int,
) -> Outcome:
    """Count what changed.

    Args:
        labels: int64 [N].
        before: predictions as indexed, int64 [N].
        after: predictions under the edit, int64 [N].
        group: rows of the neighbours or of the mode.
        weights: scalar weights that were free to change.
    """
    right, right_now = before == labels, after == labels
    return Outcome(
        weights=weights,
        neighbours_corrected=int((right_now & ~right)[group].sum()),
        fixed=int((right_now & ~right).sum()),
        broken=int((right & ~right_now).sum()),
        accuracy_before=float(right.mean()),
        accuracy_after=float(right_now.mean()),
    )


@dataclass(frozen=True)
class RepairedFilter:
    """A filter that a repair changed, and how salient it was (mean standardized saliency)."""

    layer: str
    filter: int
    score: float


@dataclass(frozen=True)
class AffectedSample:
    """One sample whose prediction changed, or that belongs to the repaired group.

    Attributes:
        id: of the sample.
        label: its class.
        before: class predicted by the model as indexed.
        after: class predicted by the repaired model.
        confidence_before: probability of `before`.
        confidence_after: probability of `after`.
        in_group: whether it is one of the neighbours or members of the mode.
        split: "discover", "guard" or "held-out" where the index was split.
    """

    id: str
    label: int
    before: int
    after: int
    confidence_before: float
    confidence_after: float
    in_group: bool
    split: str | None = None

    @property
    def change(self) -> str:
        """Return "fixed", "broken", "still wrong" or "still right"."""
        if self.after == self.label:
            return "still right" if self.before == self.label else "fixed"
        return "broken" if self.before == self.label else "still wrong"


@dataclass(frozen=True)
class RepairReport:
    """A repair in the paper's form, beside its controls.

    Attributes:
        id: of the record.
        kind: "sample" or "mode".
        target: id of the sample or mode.
        target_name: name that the mode had; of a sample its id.
        filters: what was changed, most salient first.
        neighbours: size of the group that was re-scored.
        outcome: of the salient filters.
        controls: outcomes of "random", "least" and "all".
        settings: what was asked.
        samples: members of the group and every sample whose prediction changed.
        patch: path of the safetensors patch.
        model: the repaired model: a timm folder, or a checkpoint for the factory of the index.
    """

    id: str
    kind: str
    target: str
    target_name: str
    filters: tuple[RepairedFilter, ...]
    neighbours: int
    outcome: Outcome
    controls: Mapping[str, Outcome]
    settings: RepairSettings
    samples: tuple[AffectedSample, ...]
    patch: str
    model: str

    def __post_init__(self) -> None:
        if self.outcome.neighbours_corrected > self.neighbours:
            raise ValueError("more neighbours corrected than there are")
        if sum(sample.in_group for sample in self.samples) != self.neighbours:
            raise ValueError("every member of the group stands among the samples")

    @property
    def neighbours_corrected(self) -> int:
        """Members of the group that the repair corrected."""
        return self.outcome.neighbours_corrected

    @property
    def accuracy_change(self) -> float:
        """Change of accuracy over the index, as a share."""
        return self.outcome.accuracy_change

    def to_json(self) -> dict[str, Any]:
        """Return everything but the samples, JSON-ready."""
        return {
            "id": self.id,
            "kind": self.kind,
            "target": self.target,
            "target_name": self.target_name,
            "filters": [asdict(entry) for entry in self.filters],
            "neighbours": self.neighbours,
            **self.outcome.to_json(),
            "controls": {name: control.to_json() for name, control in self.controls.items()},
            "settings": self.settings.to_json(),
            "patch": self.patch,
            "model": self.model,
        }

    def to_arrow(self) -> pa.Table:
        """Return one row for each affected sample, with its change."""
        return samples_table(self.samples)

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        arms = {"salient": self.outcome, **self.controls}
        rows = "".join(_html_row(name, arm, self.neighbours) for name, arm in arms.items())
        head = "<tr><th>filters<th>corrected<th>fixed<th>broken<th>accuracy change, points</tr>"
        caption = (
            f"<caption>repair {escape(self.id)} of {self.kind} {escape(self.target)}</caption>"
        )
        return f"<table>{caption}{head}{rows}</table>"


def samples_table(samples: tuple[AffectedSample, ...]) -> pa.Table:
    """Return one row a sample, with its change."""
    rows = [{**asdict(sample), "change": sample.change} for sample in samples]
    return pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)


def affected_samples(
    ids: tuple[str, ...],
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    group: np.ndarray,
    splits: np.ndarray | None = None,
) -> tuple[AffectedSample, ...]:
    """Return the group and all samples whose prediction changed, in the order of the index.

    Args:
        ids: N ids.
        labels: int64 [N].
        before: logits as indexed, float32 [N, C].
        after: logits under the edit, float32 [N, C].
        group: rows of the neighbours or of the mode.
        splits: name of the split of each sample, str [N].
    """
    old, new = before.argmax(1), after.argmax(1)
    inside = np.zeros(len(ids), bool)
    inside[group] = True
    return tuple(
        AffectedSample(
            id=ids[row],
            label=int(labels[row]),
            before=int(old[row]),
            after=int(new[row]),
            confidence_before=_confidence(before[row]),
            confidence_after=_confidence(after[row]),
            in_group=bool(inside[row]),
            split=None if splits is None else str(splits[row]),
        )
        for row in np.flatnonzero(inside | (old != new))
    )


def _confidence(logits: np.ndarray) -> float:
    """Return the largest softmax probability of one row of logits."""
    return float(1 / np.exp(logits.astype(np.float64) - logits.max()).sum())


def _html_row(name: str, arm: Outcome, neighbours: int) -> str:
    cells = (
        name,
        f"{arm.neighbours_corrected} of {neighbours}",
        str(arm.fixed),
        str(arm.broken),
        f"{100 * arm.accuracy_change:+.2f}",
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
