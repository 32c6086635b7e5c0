"""Absorbing BatchNorms into the convolutions before them, exactly.

In eval mode a BatchNorm multiplies channel o by s_o = gamma_o / sqrt(var_o + eps) and adds a
constant. A convolution with weights s_o W_o computes both at once, its gradient by that weight is
1 / s_o times that of W_o, and so

    profile(W)_o = |s_o| * profile(s W)_o.

This holds where the BatchNorm is the only consumer of the convolution's output. That is read off
a pass that really ran: no other operation took the tensor, and the autograd graph has one edge to
the convolution's node. Later passes check again that each folded output meets its BatchNorm first.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


class FoldingError(Exception):
    """A pass did not repeat what the folding plan was read from; it must be run again unfolded."""


@dataclass(frozen=True)
class Normalization:
    """The tensors of one eval-mode BatchNorm call, each [O]."""

    mean: Tensor
    variance: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float

    def same(self, other: "Normalization") -> bool:
        """Return whether both calls used the very same tensors."""
        mine = (self.mean, self.variance, self.gamma, self.beta)
        theirs = (other.mean, other.variance, other.gamma, other.beta)
        same_tensors = all(a is b for a, b in zip(mine, theirs, strict=True))
        return same_tensors and self.eps == other.eps

    @property
    def scale(self) -> Tensor:
        """The factor s of each channel, [O]."""
        scale = (self.variance + self.eps).rsqrt()
        return scale if self.gamma is None else scale * self.gamma

    def apply(self, x: Tensor) -> Tensor:
        """Do the BatchNorm's work by plain arithmetic on maps x [B, O, H, W]."""
        scale, shift = self._affine(None)
        return (x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the convolution that does the BatchNorm's work as well."""
        scale, shift = self._affine(bias)
        return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift

    def _affine(self, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        scale = self.scale
        shift = -self.mean * scale if bias is None else (bias - self.mean) * scale
        return scale, shift if self.beta is None else shift + self.beta


def worth_folding(positions: int, weight: Tensor) -> bool:
    """Whether a batch's maps (positions per channel) outweigh a rewrite of the weights [O, ...]."""
    return positions * weight.shape[0] >= weight.numel()


@dataclass
class Consumers:
    """What happens to the outputs of convolutions within one pass.

    Attributes:
        plan: unit weights whose convolution is run folded, with the BatchNorm that it absorbs.
        learning: whether to look for foldable pairs; outputs of folded passes are only checked.
    """

    plan: dict[int, Normalization]
    learning: bool
    _watched: dict[int, tuple[weakref.ref, int]] = field(default_factory=dict)
    _nodes: dict[int, Any] = field(default_factory=dict)
    _candidates: dict[int, Normalization] = field(default_factory=dict)
    _spoilt: set[int] = field(default_factory=set)

    def watch(self, output: Tensor, slot: int) -> None:
        """Follow the output of a convolution with unit weight `slot`."""
        if slot in self._nodes:  # a shared weight
            if slot in self.plan:
                raise FoldingError
            self._spoilt.add(slot)
        self._watched[id(output)] = (weakref.ref(output), slot)
        self._nodes[slot] = output.grad_fn

    def normalize(self, x: Tensor, normalization: Normalization) -> bool:
        """Take note of a BatchNorm; return whether x went through it already, in the weights."""
        slot = self._slot(x)
        if slot is None:
            return False
        planned = self.plan.get(slot)
        if planned is not None:
            if not planned.same(normalization) or x.grad_fn is not self._nodes[slot]:
                raise FoldingError
            del self._watched[id(x)]
            return True
        if slot in self._candidates or x.grad_fn is not self._nodes[slot]:
            self._spoilt.add(slot)
        self._candidates[slot] = normalization
        return False

    def touch(self, arguments: Any, result: Any) -> None:
        """Take note of any other operation that took `arguments`."""
        if not self._watched or isinstance(result, _METADATA):
            return
        for tensor in _tensors(arguments):
            slot = self._slot(tensor)
            if slot is not None and slot in self.plan:
                raise FoldingError
            if slot is not None:
                self._spoilt.add(slot)

    def require_absorbed(self) -> None:
        """Raise FoldingError where a folded output has not met its BatchNorm."""
        if self._watched:
            raise FoldingError

    def learn(self, loss: Tensor) -> dict[int, Normalization]:
        """Return the plan for passes over images of this shape, from the loss of this one."""
        edges = _edges(loss, {id(node) for node in self._nodes.values()})
        return {
            slot: normalization
            for slot, normalization in self._candidates.items()
            if slot not in self._spoilt and edges.get(id(self._nodes[slot])) == 1
        }

    def _slot(self, tensor: Tensor) -> int | None:
        reference, slot = self._watched.get(id(tensor), (None, None))
        return slot if reference is not None and reference() is tensor else None


_METADATA = (int, bool, str, torch.Size, torch.dtype, torch.device, torch.layout)
"""Results of questions about a tensor's form, which consume nothing of its values."""


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, (tuple, list)):
            yield from _tensors(argument)


def _edges(loss: Tensor, wanted: set[int]) -> dict[int, int]:
    """Count the edges of the loss's autograd graph that lead to each wanted node."""
    counts: dict[int, int] = {}
    todo = [loss.grad_fn] if loss.grad_fn is not None else []
    seen = set(todo)
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is None:
                continue
            if id(node) in wanted:
                counts[id(node)] = counts.get(id(node), 0) + 1
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return counts
