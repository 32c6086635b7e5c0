"""Stepping around faults of PyTorch's kernels on CPUs, which would crash or falsify gradients.

Two of them meet models that people use (seen with torch 2.14):

- The weight gradient of a strided 1x1 convolution of few channels, with maps in channels_last,
  writes past oneDNN's workspace (oneDNN issue 6035): the stems of MobileOne and FastViT end in a
  segmentation fault. The pixels that such a convolution meets are taken out first.
- The gradient of an eval-mode BatchNorm over the maps of a single image is scrambled where the
  strides of that image's maps leave open which memory format they have, as after reshaping tokens
  (EfficientFormer, iFormer). One image is scaled and shifted by plain arithmetic.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .folding import Normalization
from .geometry import Geometry, of_call

FEW_CHANNELS = 16
"""oneDNN's block of channels with AVX-512, and the largest: from it on nothing is overwritten."""


class SoundKernels(TorchFunctionMode):
    """Runs the code within it by `sound`."""

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None) -> Any:
        """Run one function of torch."""
        return sound(func, args, kwargs or {})


def sound(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Call a function of torch, or one of the same value whose gradient is right."""
    if func is torch.conv2d:
        return _conv2d(*args, **kwargs)
    if func is F.batch_norm:
        return _batch_norm(*args, **kwargs)
    return func(*args, **kwargs)


def writes_past_workspace(x: Tensor, conv: Geometry) -> bool:
    """Whether the weight gradient of a convolution of x [B, I, H, W] would."""
    strided = conv.pointwise and conv.stride != (1, 1)
    return strided and not x.is_cuda and x.shape[1] // conv.groups < FEW_CHANNELS


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    if input.dim() == 4:
        x, conv = of_call(input, weight, stride, padding, dilation, groups)
        if writes_past_workspace(x, conv):
            return torch.conv2d(conv.met(x), weight, bias, groups=groups)
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _batch_norm(
    input, running_mean, running_var, weight=None, bias=None,
    training=False, momentum=0.1, eps=1e-5,
) -> Tensor:  # fmt: skip
    if training or input.is_cuda or input.dim() != 4 or len(input) != 1:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return Normalization(running_mean, running_var, weight, bias, eps).apply(input)
