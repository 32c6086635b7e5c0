"""Keep what every convolution and linear layer sees, as parts of the autograd graph.

The profile engine drops a layer's input and output gradient as soon as it has their row sums. To
differentiate a profile once more, both must stay, with their graphs. `LayerTaps` records them; a
per-sample weight gradient is bilinear in the two, and the functions at the end of this file are
that product and its two partial derivatives.

Symbols as in the package docstring; V is a tensor of the weight's shape for each sample.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .geometry import Geometry, of_call
from .products import conv_gradients, input_gradient, linear_gradients


@dataclass(frozen=True, eq=False)
class Tap:
    """One call of one layer.

    Attributes:
        slot: position of the layer in the layout.
        input: what the layer was applied to, [B, ...] or, for a single image, [anything, ...].
        weight: the layer's parameter.
        output: what it returned; downstream of it the model works on a copy, so that in-place
            activations leave this tensor and its place in the graph alone.
        version: of the input when it was recorded.
        conv: geometry of a convolution, None for a linear layer.
    """

    slot: int
    input: Tensor
    weight: Tensor
    output: Tensor
    version: int
    conv: Geometry | None

    @property
    def intact(self) -> bool:
        """Whether the recorded input still is what the layer saw: not overwritten in place."""
        return self.input._version == self.version


class LayerTaps(TorchFunctionMode):
    """Record the calls of some weights while a model runs.

    Args:
        slots: position of each weight in the layout, by `id(parameter)`.

    Attributes:
        taps: the calls in the order they happened.
        escaped: positions of weights that went into anything but a plain convolution or linear
            product: derived weights, fused attention and the like.
    """

    def __init__(self, slots: Mapping[int, int]) -> None:
        super().__init__()
        self.taps: list[Tap] = []
        self.escaped: set[int] = set()
        self._slots = slots

    def __torch_function__(self, func: Any, types, args=(), kwargs=None) -> Any:
        """Record conv2d and linear; watch where else the weights go."""
        kwargs = kwargs or {}
        if func is torch.conv2d:
            result = self._conv2d(*args, **kwargs)
        elif func is F.linear:
            result = self._linear(*args, **kwargs)
        else:
            result = None
        if result is not None:
            return result
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.requires_grad:
            used = (self._slots.get(id(leaf)) for leaf in _tensors((args, kwargs)))
            self.escaped.update(slot for slot in used if slot is not None)
        return result

    def _conv2d(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ) -> Tensor | None:
        slot = self._slots.get(id(weight))
        if slot is None or input.dim() != 4:
            return None
        x, conv = of_call(input, weight, stride, padding, dilation, groups)
        output = torch.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, groups)
        return self._record(slot, x, weight, output, conv)

    def _linear(self, input, weight, bias=None) -> Tensor | None:
        slot = self._slots.get(id(weight))
        if slot is None or input.dim() < 2:
            return None
        return self._record(slot, input, weight, F.linear(input, weight, bias), None)

    def _record(
        self, slot: int, x: Tensor, weight: Tensor, output: Tensor, conv: Geometry | None
    ) -> Tensor:
        self.taps.append(Tap(slot, x, weight, output, x._version, conv))
        return output.clone()


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from _tensors(value)


def weight_gradients(tap: Tap, g: Tensor, samples: int) -> Tensor:
    """Return per-sample gradients of the layer's weight, [B, *weight.shape].

    Args:
        tap: a recorded call.
        g: gradient of the summed loss at the tap's output.
        samples: B.
    """
    x, weight = tap.input.detach(), tap.weight.detach()
    if tap.conv is None:
        return linear_gradients(_tokens(x, samples), _tokens(g, samples))
    gradients = conv_gradients(x, g, weight, tap.conv)
    # A single image may reach the layer as several maps, whose gradients belong together.
    return gradients if len(x) == samples else gradients.sum(0, keepdim=True)


def input_cotangent(tap: Tap, g: Tensor, directions: Tensor) -> Tensor:
    """Return the derivative of sum_b <weight gradient of b, V_b> with respect to the input.

    It is the layer's own input gradient, with V_b in place of the weight.

    Args:
        tap: a recorded call.
        g: gradient of the summed loss at the tap's output.
        directions: V, [B, *weight.shape].
    """
    x, samples = tap.input.detach(), len(directions)
    if tap.conv is None:
        return torch.bmm(_tokens(g, samples), directions).reshape(x.shape)
    parts = zip(x.chunk(samples), g.chunk(samples), directions.unbind(), strict=True)
    return torch.cat([input_gradient(*part, tap.conv) for part in parts])


def output_cotangent(tap: Tap, directions: Tensor) -> Tensor:
    """Return the derivative of the same sum with respect to g.

    It is the layer itself, with V_b in place of the weight.
    """
    x, samples, conv = tap.input.detach(), len(directions), tap.conv
    if conv is None:
        return torch.bmm(_tokens(x, samples), directions.mT).reshape(tap.output.shape)
    parts = zip(x.chunk(samples), directions.unbind(), strict=True)
    return torch.cat(
        [
            torch.conv2d(part, v, None, conv.stride, conv.padding, conv.dilation, conv.groups)
            for part, v in parts
        ]
    )


def _tokens(tensor: Tensor, samples: int) -> Tensor:
    return tensor.reshape(samples, -1, tensor.shape[-1])
