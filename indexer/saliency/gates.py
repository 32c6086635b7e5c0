"""Activations and sums whose gradients cost no pass through memory of their own.

The gradient of an activation is the gradient of its output times a tensor: a ReLU's mask, or the
derivative of a smooth one. Where the graph of a pass shows that only layers and sums take the
output, the last of them to send its gradient back multiplies it with that tensor while it still has
it in registers, having added what the others sent before. The activation's own backward then passes
the finished gradient on.

A pass goes through three steps: its activations are replaced by functions of this file while the
model runs; `connect` reads off the graph which of them can be served in that way; and `send` is
how a consumer hands its gradient over.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels.activations import Curve, activate
from .kernels.finish import NOTHING, Finish, Gate, finish_

_MAKERS = ("MaxPool2DWithIndicesBackward0",)
"""Operations of PyTorch whose backward writes a gradient that nobody else sees."""


class _Activation(torch.autograd.Function):
    """What all activations share.

    A node's `waits` counts the gradients that are still to be sent, None where not all will be;
    `pending` is the sum of those that were; `owned` says that the gradient that arrives may be
    overwritten.
    """

    gate = Gate.OPEN

    @classmethod
    def prepare(cls, ctx: Any, factor: Tensor) -> None:
        ctx.save_for_backward(factor)
        ctx.gate, ctx.waits, ctx.pending, ctx.owned = cls.gate, None, None, False

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor):
        if ctx.waits == 0:
            return g, None
        (factor,) = ctx.saved_tensors
        if ctx.gate is Gate.FACTOR:
            return factor.mul_(g), None
        own = g if ctx.owned else torch.empty_like(factor).copy_(g)
        return finish_(own, Finish(None, factor, ctx.gate)), None


class _Relu(_Activation):
    gate = Gate.POSITIVE

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_place: bool):
        y = x.relu_() if in_place else x.relu()
        if in_place:
            ctx.mark_dirty(x)
        _Relu.prepare(ctx, y)
        return y


class _Smooth(_Activation):
    gate = Gate.FACTOR

    @staticmethod
    def forward(ctx: Any, x: Tensor, how: tuple[Curve, bool]):
        curve, in_place = how
        y, derivative = activate(x, curve, in_place=in_place)
        if in_place:
            ctx.mark_dirty(x)
        _Smooth.prepare(ctx, derivative)
        return y


class _Sum(torch.autograd.Function):
    """A residual connection."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, in_place: bool):
        ctx.sends = (0, 1)
        if not in_place:
            return a + b
        ctx.mark_dirty(a)
        return a.add_(b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor):
        def finished(finish: Finish) -> Tensor:
            return g if finish is NOTHING else finish_(g.clone(), finish)

        wanted = zip(ctx.needs_input_grad[:2], range(2), strict=True)
        return *(send(ctx, i, finished) if wants else None for wants, i in wanted), None


# The classes of their nodes in the graph: made by a metaclass, unknown to type checkers.
_ACTIVATIONS: tuple[type, ...] = tuple(vars(kind)["_backward_cls"] for kind in (_Relu, _Smooth))


def relu(x: Tensor, in_place: bool) -> Tensor:
    """Apply a ReLU to what `takes` accepts."""
    return _Relu.apply(x, in_place)  # type: ignore[return-value]


def smooth(x: Tensor, curve: Curve, in_place: bool) -> Tensor:
    """Apply a smooth activation to what `takes` accepts."""
    return _Smooth.apply(x, (curve, in_place))  # type: ignore[return-value]


def add(a: Tensor, b: Tensor, in_place: bool) -> Tensor | None:
    """Add an activation's output and a tensor of its shape; None where they are not such."""
    joins = isinstance(a.grad_fn, _ACTIVATIONS) or isinstance(b.grad_fn, _ACTIVATIONS)
    if not (joins and a.shape == b.shape and takes(a) and takes(b)):
        return None
    return _Sum.apply(a, b, in_place)  # type: ignore[return-value]


def takes(x: Tensor) -> bool:
    """Whether the functions of this file compute what PyTorch would."""
    dense = x.is_contiguous() or (
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    )
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.requires_grad
    return plain and dense and not x._is_view()


def connect(loss: Tensor) -> None:
    """Find the activations all of whose consumers will `send` their gradients."""
    edges: dict[Any, int] = {}
    strangers = set()
    todo: list[Any] = [loss.grad_fn]
    seen = set(todo)
    while todo:
        parent = todo.pop()
        for position, (node, _) in enumerate(parent.next_functions):
            if node is None:
                continue
            if isinstance(node, _ACTIVATIONS):
                edges[node] = edges.get(node, 0) + 1
                if position not in getattr(parent, "sends", ()):
                    strangers.add(node)
                    node.owned = parent.name() in _MAKERS
            if node not in seen:
                seen.add(node)
                todo.append(node)
    for node, count in edges.items():
        if node not in strangers:
            node.waits = count
        node.owned = node.owned and count == 1


def send(ctx: Any, position: int, compute: Callable[[Finish], Tensor]) -> Tensor | None:
    """Return the gradient of an input, or None where another consumer of it will add it to its own.

    Args:
        ctx: the node that sends; its `sends` names the positions that it calls this for.
        position: of the input among its inputs.
        compute: computes the gradient and finishes it.
    """
    node = ctx.next_functions[position][0]
    if not isinstance(node, _ACTIVATIONS) or not node.waits:
        return compute(NOTHING)
    node.waits -= 1
    pending, node.pending = node.pending, None
    if node.waits:
        node.pending = compute(NOTHING if pending is None else Finish(pending))
        return None
    return compute(Finish(pending, node.saved_tensors[0], node.gate))
