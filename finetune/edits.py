"""A repair as data: rows of weights, before and after.

An edit is what training returns, what a patch file stores and what re-scoring applies. Keeping
both sides of every row makes going back exact; adding and subtracting a difference would not be.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from indexer.errors import ModelError
from indexer.filters import FilterLayout


@dataclass(frozen=True)
class RowEdit:
    """Changed rows of one parameter: rows int64 [n], before and after [n, ...] in its dtype."""

    parameter: str
    rows: Tensor
    before: Tensor
    after: Tensor

    def __post_init__(self) -> None:
        if self.before.shape != self.after.shape or len(self.rows) != len(self.before):
            raise ValueError(f"rows, before and after of {self.parameter} differ in shape")
        if len(torch.unique(self.rows)) != len(self.rows):
            raise ValueError(f"a row of {self.parameter} is named twice")


@dataclass(frozen=True)
class Edit:
    """Changed rows of a model, one `RowEdit` per parameter."""

    rows: tuple[RowEdit, ...]

    @property
    def weights(self) -> int:
        """Number of scalar weights the edit may change."""
        return sum(edit.after.numel() for edit in self.rows)

    def apply(self, model: nn.Module) -> None:
        """Write the rows after the edit into the model's weights."""
        self._write(model, "after")

    def revert(self, model: nn.Module) -> None:
        """Write the rows before the edit into the model's weights."""
        self._write(model, "before")

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Give the edited model; afterwards its weights are again what they were, bit for bit."""
        weights = dict(model.named_parameters())
        found = [
            (
                weights[edit.parameter],
                rows := edit.rows.to(weights[edit.parameter].device),
                weights[edit.parameter].detach()[rows],
            )
            for edit in self.rows
        ]
        try:
            self.apply(model)
            yield model
        finally:
            with torch.no_grad():
                for weight, rows, values in found:
                    weight[rows] = values

    def _write(self, model: nn.Module, side: str) -> None:
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for edit in self.rows:
                weight = weights.get(edit.parameter)
                values = getattr(edit, side)
                if weight is None or weight.shape[1:] != values.shape[1:]:
                    raise ModelError(f"the model has no weight {edit.parameter} of this shape")
                weight[edit.rows.to(weight.device)] = values.to(weight.device)


Targets = Mapping[str, Tensor]
"""Rows (int64 [n]) that may change, by parameter name."""


def targets_of(layout: FilterLayout, columns: np.ndarray, model: nn.Module) -> dict[str, Tensor]:
    """Return the weight rows behind columns of a profile, by parameter name.

    Where profiles are aggregated layer-wise a column stands for every row of its layer.
    """
    weights = dict(model.named_parameters())
    chosen: dict[str, Tensor] = {}
    for index in np.unique(layout.layer_of_column[columns]):
        layer = layout.layers[int(index)]
        weight = weights.get(layer.parameter)
        if weight is None:
            raise ModelError(f"the model has no weight {layer.parameter} that the index names")
        rows = columns[(columns >= layer.start) & (columns < layer.stop)] - layer.start
        if layer.filters == 1:
            rows = np.arange(weight.shape[0])
        chosen[layer.parameter] = torch.from_numpy(rows.astype(np.int64))
    return chosen


def classifier_targets(model: nn.Module) -> dict[str, Tensor]:
    """Return every row of the classifier's weight: the last two-dimensional parameter."""
    matrices = [(name, p) for name, p in model.named_parameters() if p.ndim == 2]
    if not matrices:
        raise ModelError("the model has no linear layer: selection 'last' cannot be used")
    name, weight = matrices[-1]
    return {name: torch.arange(weight.shape[0])}
