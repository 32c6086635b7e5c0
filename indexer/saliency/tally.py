"""The profiles of one batch while its backward pass fills them in."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from indexer.filters import FilterLayout

from .derived import pull_back
from .dispatch import Dispatcher
from .geometry import Geometry
from .precision import operand
from .products import conv_gradients, linear_gradients

DENSE_SCRATCH = 1 << 24
"""Elements of per-sample gradients that the dense path holds at a time: 64 MiB in float32."""


@dataclass(frozen=True)
class Call:
    """One executed call of a layer whose weight is a unit weight, or is derived from some.

    Attributes:
        slots: indices, within the layout, of the unit weights behind `weight`.
        weight: the tensor that the layer used, with its graph.
        conv: geometry of a convolution, None for a linear layer.
        scale: factor [O] of each row of the weight in the pass that ran, where it was folded.
    """

    slots: tuple[int, ...]
    weight: Tensor
    conv: Geometry | None
    scale: Tensor | None = None


@dataclass(frozen=True)
class Table:
    """A tensor that was computed without the images, of which each sample takes a copy.

    Attributes:
        slots: indices, within the layout, of the unit weights behind `values`.
        values: the tensor, with its graph.
        scratch: elements of the largest tensor of that graph.
    """

    slots: tuple[int, ...]
    values: Tensor
    scratch: int


@dataclass(frozen=True)
class _Use:
    """What one use of a unit weight adds to its per-sample gradients.

    Attributes:
        gradients: computes [b, *parameter.shape] for some of the samples.
        scratch: elements that takes for each of them.
        reason: why it is computed in full.
    """

    gradients: Callable[[slice], Tensor]
    scratch: int
    reason: str


class Tally:
    """Turns (x, g) of each call into columns of the batch's profiles.

    A weight used once, as it is, takes the fast path at once. Uses of a weight that is shared
    within the forward pass, or derived from a parameter, wait for each other: their per-sample
    gradients add up before the absolute value, so these are computed in full, some samples at a
    time.

    Attributes:
        profiles: [B, F]; columns of weights that the loss does not depend on stay zero.
        dispatcher: chooses the formulas.
        products: multiplications of the forward pass so far, in the layers that were announced.
        paths: index of each visited weight -> name of and reason for the formula that computed it.
    """

    def __init__(
        self,
        layout: FilterLayout,
        weights: list[torch.nn.Parameter],
        batch: int,
        precision: str = "fp32",
        dispatcher: Dispatcher | None = None,
    ) -> None:
        first = weights[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        self.profiles = torch.zeros(batch, len(layout), dtype=dtype, device=first.device)
        self.paths: dict[int, tuple[str, str]] = {}
        self.products = 0
        self._layers = layout.layers
        self._weights = weights
        self._uses = [0] * len(weights)
        self._waiting: dict[int, list[_Use]] = {}
        self._precision = precision
        self.dispatcher = dispatcher or Dispatcher()

    @property
    def batch(self) -> int:
        """Number of samples, B."""
        return self.profiles.shape[0]

    def uses(self, slot: int) -> int:
        """How often the forward pass has used a unit weight so far."""
        return self._uses[slot]

    def expect(self, call: Call, x: Tensor) -> None:
        """Count a call in the forward pass; backward must not start before all are counted."""
        for slot in call.slots:
            self._uses[slot] += 1
        positions = (
            x.numel() // x.shape[-1] if call.conv is None else len(x) * call.conv.positions(x)
        )
        self.products += positions * call.weight.numel()

    def expect_table(self, table: Table) -> None:
        """Count a table that meets the samples; each announced once, before backward starts."""
        for slot in table.slots:
            self._uses[slot] += 1

    def add(self, call: Call, x: Tensor, g: Tensor) -> None:
        """Take in a call's input and output gradient, whose leading dimension holds the samples."""
        x, g = operand(self._precision, x), operand(self._precision, g)
        if call.conv is None:
            x = x.reshape(self.batch, -1, x.shape[-1])
            g = g.reshape(self.batch, -1, g.shape[-1])
        for slot in call.slots:
            direct = call.weight is self._weights[slot] and self._uses[slot] == 1
            if direct and x.shape[0] == self.batch:
                self._add_direct(slot, call, x, g)
                continue
            gradients = partial(self._sample_gradients, slot, call, x, g)
            scratch = self._weights[slot].numel()
            self._wait(slot, _Use(gradients, scratch, "weight derived from the parameter"))

    def add_table(self, table: Table, g: Tensor) -> None:
        """Take in the gradients [B, *table.values.shape] of the samples' copies of a table."""
        g = g.to(table.values.dtype)
        for slot in table.slots:

            def gradients(part: slice, slot: int = slot) -> Tensor:
                return pull_back(table.values, self._weights[slot], g[part])

            self._wait(slot, _Use(gradients, table.scratch, "shapes a table, not the images"))

    @torch.no_grad()
    def close(self) -> None:
        """Finish weights whose other uses the backward pass never reached."""
        for slot, waiting in self._waiting.items():
            self._add_dense(slot, waiting)
        self._waiting.clear()

    def _add_direct(self, slot: int, call: Call, x: Tensor, g: Tensor) -> None:
        if call.conv is None:
            path = self.dispatcher.linear(x, g)
        else:
            path = self.dispatcher.conv(x, g, call.weight.detach().to(x.dtype), call.conv)
        folded = "" if call.scale is None else ", BatchNorm folded"
        self.paths[slot] = (path.name, path.reason + folded)
        rows = path.rowsum(x, g)
        self._write(slot, slice(None), rows if call.scale is None else rows * call.scale.abs())

    def _wait(self, slot: int, use: _Use) -> None:
        """Keep a use of a weight until the last one is known."""
        waiting = self._waiting.setdefault(slot, [])
        waiting.append(use)
        if len(waiting) == self._uses[slot]:
            self._add_dense(slot, self._waiting.pop(slot))

    def _add_dense(self, slot: int, uses: list[_Use]) -> None:
        shared = len(uses) > 1
        self.paths[slot] = ("dense", f"used {len(uses)} times" if shared else uses[0].reason)
        step = max(1, DENSE_SCRATCH // max(use.scratch for use in uses))
        for start in range(0, self.batch, step):
            part = slice(start, start + step)
            total = uses[0].gradients(part)
            for use in uses[1:]:
                total = total + use.gradients(part)
            self._write(slot, part, total.abs().flatten(2).sum(2))

    def _sample_gradients(self, slot: int, call: Call, x: Tensor, g: Tensor, part: slice) -> Tensor:
        """Gradients of one call by the parameter, [b, *parameter.shape]."""
        parameter = self._weights[slot]
        if call.conv is None:
            gradients = linear_gradients(x[part], g[part])
        elif call.conv.pointwise and call.conv.groups == 1:
            pixels, outputs = (self._tokens(maps)[part] for maps in (call.conv.met(x), g))
            gradients = linear_gradients(pixels, outputs)[..., None, None]
        else:
            gradients = self._conv_gradients(call.conv, call.weight, x, g, part)
        gradients = gradients.to(parameter.dtype)
        if call.weight is parameter:
            return gradients
        return pull_back(call.weight, parameter, gradients)

    def _conv_gradients(
        self, conv: Geometry, weight: Tensor, x: Tensor, g: Tensor, part: slice
    ) -> Tensor:
        """Gradients by the weight that a convolution used, [b, *weight.shape]."""
        views = len(x) // self.batch
        start, stop, _ = part.indices(self.batch)
        rows = slice(start * views, stop * views)
        gradients = conv_gradients(x[rows], g[rows], weight.detach().to(x.dtype), conv)
        return gradients if views == 1 else gradients.unflatten(0, (-1, views)).sum(1)

    def _tokens(self, maps: Tensor) -> Tensor:
        """Turn maps [B * views, C, H, W] into [B, views * P, C]."""
        return maps.permute(0, 2, 3, 1).reshape(self.batch, -1, maps.shape[1])

    def _write(self, slot: int, part: slice, rows: Tensor) -> None:
        layer = self._layers[slot]
        if layer.filters != rows.shape[1]:
            rows = rows.sum(1, keepdim=True)
        torch.div(rows, layer.fan, out=self.profiles[part, layer.start : layer.stop])
