"""Seeing every convolution and linear layer while a model runs, and taking x and g from it.

A `TorchFunctionMode` meets the calls of `conv2d` and `linear` themselves, with the padding, stride
and weight that the model really used: module hooks would miss reflect padding, "same" padding,
functional calls and standardized weights. Each such call is replaced by an autograd function whose
backward computes the input gradient and hands (x, g) to the tally; the batch gradient of the
weight is never formed.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from .derived import sources
from .dispatch import Dispatcher
from .faults import sound
from .folding import Consumers, Normalization, worth_folding
from .gates import add, relu, send, smooth, takes
from .geometry import Geometry, of_call
from .kernels.activations import Curve
from .kernels.finish import Finish
from .products import convolve, live_tokens
from .tables import Tables
from .tally import Call, Tally

_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_SMOOTH = {F.silu: Curve.SILU, F.hardswish: Curve.HARDSWISH}
_SUMS = (torch.add, Tensor.add, Tensor.__add__, Tensor.add_, Tensor.__iadd__)
_IN_PLACE = (F.relu_, torch.relu_, Tensor.relu_, Tensor.add_, Tensor.__iadd__)


class _Convolution(torch.autograd.Function):
    """conv2d with a frozen weight. `anchor` requires grad, so the graph starts at the stem."""

    @staticmethod
    def forward(ctx: Any, x, anchor, weight, bias, call: Call, tally: Tally, conv: Geometry):
        ctx.call, ctx.tally, ctx.conv = call, tally, conv
        ctx.sends = (0,)
        ctx.save_for_backward(x, weight)
        return tally.dispatcher.convolve(x, weight, bias, conv)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor):
        x, weight = ctx.saved_tensors
        ctx.tally.add(ctx.call, x, g)
        if not ctx.needs_input_grad[0]:
            return (None,) * 7
        gradient = partial(ctx.tally.dispatcher.input_gradient, x, g, weight, ctx.conv)
        return send(ctx, 0, gradient), *[None] * 6


class _Linear(torch.autograd.Function):
    """linear with a frozen weight."""

    @staticmethod
    def forward(ctx: Any, x, anchor, weight, bias, call: Call, tally: Tally):
        ctx.call, ctx.tally = call, tally
        ctx.sends = (0,)
        ctx.save_for_backward(x, weight)
        result = tally.dispatcher.multiply(x, weight, bias)
        # Models may write to it, which autograd forbids for views that leave a function.
        return result if result._base is None else torch.ops.aten._unsafe_view(result, result.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor):
        x, weight = ctx.saved_tensors
        live = live_tokens(g)
        if live is None:
            ctx.tally.add(ctx.call, x, g)
        else:
            ctx.tally.add(ctx.call, x[:, live], g[:, live])
        if not ctx.needs_input_grad[0]:
            return (None,) * 6
        gradient = partial(_token_gradient, ctx.tally.dispatcher, g, weight, live)
        return send(ctx, 0, gradient), *[None] * 5


def _token_gradient(
    dispatcher: Dispatcher, g: Tensor, weight: Tensor, live: Tensor | None, finish: Finish
) -> Tensor:
    """Differentiate a linear layer by its input, where g vanishes for all but the live tokens."""
    if live is None or finish.residual is not None:
        return dispatcher.token_gradient(g, weight, finish)
    if finish.factor is not None:
        finish = replace(finish, factor=finish.factor[:, live])
    gradient = g.new_zeros(*g.shape[:-1], weight.shape[1])
    gradient[:, live] = dispatcher.token_gradient(g[:, live], weight, finish)
    return gradient


class Interceptor(TorchFunctionMode):
    """Reroutes the layers of one forward pass; used as a context manager around it.

    A call is rerouted where its weight comes from unit weights alone and its input's leading
    dimension is a multiple of the batch; where the input does not depend on the images, also only
    if that dimension grows with the batch. Other calls run as they are; if a unit weight took part
    in them, their result is a table (`tables`), or its gradient shows up in the graph (`engine`
    checks).

    Args:
        images: [B, I, H, W], the model's input.
        slots: index of each unit weight by `id(parameter)`.
        tally: receives x and g of each rerouted call; without one, calls are only watched.
        anchor: a scalar that requires grad, from which the graph starts.
        consumers: learns or checks which outputs go straight into a BatchNorm.
        growth: `tables.growth` of a pass of one image; None for that pass.

    Attributes:
        anchor: as given.
        tables: what was computed without the images.
        views: (index of unit weight, which use of it) -> leading dimension / B.
    """

    def __init__(
        self,
        images: Tensor,
        slots: dict[int, int] | None = None,
        tally: Tally | None = None,
        anchor: Tensor | None = None,
        consumers: Consumers | None = None,
        growth: Mapping[tuple, float] | None = None,
    ) -> None:
        super().__init__()
        self.views: dict[tuple[int, int], float] = {}
        self._batch = images.shape[0]
        self._slots = slots or {}
        self._tally = tally
        self.anchor = anchor
        self.tables = Tables(self._slots, tally, self._batch, anchor, self._from_pixels, growth)
        self._consumers = consumers or Consumers({}, learning=False)
        # What the images became before the first rerouted call, where no gradient tells.
        self._pixels: dict[int, weakref.ref[Tensor]] = {}
        self._mark(images)
        self._head: tuple[Tensor, Tensor] | None = None

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None) -> Any:
        """Reroute conv2d and linear; let all else run, following the images through it."""
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs)
        if func is F.linear:
            return self._linear(*args, **kwargs)
        if func is F.batch_norm and self._absorbed(*args, **kwargs):
            return args[0] if args else kwargs["input"]
        args, kwargs = self.tables.meet(func, args, kwargs)
        arguments = (*args, *kwargs.values())
        result = self._gated(func, args, kwargs)
        if result is None:
            result = self.tables.spread(func, args, sound(func, args, kwargs))
        if func is not F.batch_norm:
            self._consumers.touch(arguments, result)
        return self._follow(result, arguments)

    def embeddings(self, logits: Tensor) -> Tensor | None:
        """Return the input [B, E] of the layer that made the logits [B, C]; None if none did.

        The layer is the last linear layer, or 1x1 convolution of a 1x1 map, that ran.
        """
        if self._head is None:
            return None
        x, output = self._head
        same = logits is output or logits._base is output
        return x.detach().flatten(1) if same and x.numel() == len(x) * x.shape[1] else None

    def _gated(self, func: Callable, args: tuple, kwargs: dict) -> Tensor | None:
        """Run an activation or a residual sum whose gradient the layers around it finish."""
        tensors = args and self._tally is not None and self._tally.dispatcher.fuses
        if not tensors or not isinstance(args[0], Tensor) or not takes(args[0]):
            return None
        if self.tables.holds(args[0]):  # whose graph is run for many gradients at once
            return None
        if func in _RELUS:
            return relu(args[0], func in _IN_PLACE or _in_place(args, kwargs))
        if func in _SMOOTH:
            return smooth(args[0], _SMOOTH[func], _in_place(args, kwargs))
        if func is F.gelu and len(args) == 1 and kwargs.get("approximate", "none") == "none":
            return smooth(args[0], Curve.GELU, False)
        if func in _SUMS and len(args) == 2 and not kwargs and isinstance(args[1], Tensor):
            return add(*args, func in _IN_PLACE)
        return None

    def _conv2d(self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        x, conv = of_call(input, weight, stride, padding, dilation, groups)
        self._consumers.touch((input, weight), None)
        slots = self._rerouted(input, weight, bias) if input.dim() == 4 else ()
        if slots:
            result = self._reroute_conv2d(x, weight, bias, conv, slots)
        else:
            result = convolve(x, weight, bias, conv)
            self._follow(result, (input, weight))
        self._head = (input, result)
        return result

    def _reroute_conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Geometry, slots: tuple[int, ...]
    ) -> Tensor:
        direct = id(weight) in self._slots and x.shape[0] == self._batch
        fold = direct and worth_folding(x.shape[0] * conv.positions(x), weight)
        normalization = self._consumers.plan.get(slots[0]) if fold else None
        call = Call(slots, weight, conv, None if normalization is None else normalization.scale)
        used = weight.detach()
        if x.is_contiguous(memory_format=torch.channels_last):
            # Once here, instead of within the library in the forward and in the backward pass.
            used = used.contiguous(memory_format=torch.channels_last)
        if normalization is not None:
            used, bias = normalization.fold(used, bias)
        result = _Convolution.apply(*self._operands(x, used, bias, call), conv)
        if normalization is not None or (direct and self._consumers.learning):
            self._consumers.watch(result, slots[0])
        return result

    def _absorbed(
        self, input, running_mean, running_var, weight=None, bias=None,
        training=False, momentum=0.1, eps=1e-5,
    ) -> bool:  # fmt: skip
        """Whether a BatchNorm's work was done by the convolution before it."""
        if training or running_mean is None:
            self._consumers.touch((input,), None)
            return False
        normalization = Normalization(running_mean, running_var, weight, bias, eps)
        return self._consumers.normalize(input, normalization)

    def _linear(self, input, weight, bias=None):
        self._consumers.touch((input, weight), None)
        slots = self._rerouted(input, weight, bias) if input.dim() >= 2 else ()
        if slots:
            call = Call(slots, weight, None)
            result = _Linear.apply(*self._operands(input, weight.detach(), bias, call))
        else:
            result = self._follow(F.linear(input, weight, bias), (input, weight))
        self._head = (input, result)
        return result

    def _rerouted(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[int, ...]:
        """Return the unit weights of a call, none where it must run as it is."""
        if self._tally is None or not weight.requires_grad:
            return ()
        if bias is not None and bias.requires_grad:
            return ()
        if self.tables.holds(x):
            return ()
        slots = tuple(sources(weight, self._slots) or ())
        constant = slots and not x.requires_grad and not self._from_pixels((x,))
        if constant and not self.tables.grows(("layer", *slots), x.shape[0]):
            return ()
        for slot in slots:
            self.views[slot, self._tally.uses(slot)] = x.shape[0] / self._batch
        return slots if x.shape[0] % self._batch == 0 else ()

    def _operands(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: Call) -> tuple:
        """Announce a call to the tally and return the arguments of its autograd function."""
        if self._tally is not None:
            self._tally.expect(call, x)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = bias if bias is None else bias.to(dtype)
        return x, self.anchor, weight, bias, call, self._tally

    def _mark(self, tensor: Tensor) -> None:
        self._pixels[id(tensor)] = weakref.ref(tensor)

    def _follow(self, result: Any, arguments: tuple) -> Any:
        """Mark a result that comes from the images and carries no gradient yet; find tables."""
        results = result if isinstance(result, (tuple, list)) else (result,)
        fresh = [r for r in results if isinstance(r, Tensor) and not r.requires_grad]
        if fresh and self._from_pixels(arguments):
            for tensor in fresh:
                self._mark(tensor)
        self.tables.follow(arguments, result)
        return result

    def _from_pixels(self, arguments: Any) -> bool:
        for argument in arguments:
            if isinstance(argument, Tensor):
                known = self._pixels.get(id(argument))
                if known is not None and known() is argument:
                    return True
            elif isinstance(argument, (tuple, list)) and self._from_pixels(argument):
                return True
        return False


def _in_place(args: tuple, kwargs: dict) -> bool:
    return bool(kwargs.get("inplace", args[1:] == (True,)))
