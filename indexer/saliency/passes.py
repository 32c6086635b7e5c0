"""Forward pass and input gradient of a convolution, by the fastest call of PyTorch's libraries.

A training step consists of three products per layer. Those of this file are linear maps of whole
batches, with nothing per sample about them; but the library has several routes to each, and its
own choice is not always the fastest one on a CPU. All functions here compute in float32 on the CPU
what `products.convolve` and `products.input_gradient` compute everywhere.
"""

import torch
from torch import Tensor

from .geometry import Geometry
from .products import convolve, input_gradient


def fast_convolve(x: Tensor, weight: Tensor, bias: Tensor | None, conv: Geometry) -> Tensor:
    """Run a convolution: [B, O, OH, OW], no view of anything.

    Args:
        x: [B, I, H, W].
        weight: [O, I / G, kh, kw].
        bias: [O].
        conv: geometry.
    """
    if not (_one_pixel_each(conv) and _chooses(x, weight.shape[0])):
        return convolve(x, weight, bias, conv)
    if _is_matrix_product(x):
        return _multiply(x, weight.flatten(1).t(), bias)
    return _onednn(x, weight, bias)


def fast_input_gradient(x: Tensor, g: Tensor, weight: Tensor, conv: Geometry) -> Tensor:
    """Differentiate a convolution by its input: [B, I, H, W].

    Where the stride is 1, that is a convolution of g with reversed weights. oneDNN is faster at
    it than at its own input gradient for depthwise layers and for 1x1 layers.

    Args:
        x: [B, I, H, W]; only its shape matters.
        g: [B, O, OH, OW].
        weight: [O, I / G, kh, kw].
        conv: geometry.
    """
    if conv.stride != (1, 1) or not _chooses(g, x.shape[1]):
        return input_gradient(x, g, weight, conv)
    if _one_pixel_each(conv):
        if _is_matrix_product(g):
            return _multiply(g, weight.flatten(1), None)
        return _onednn(g, weight.transpose(0, 1), None)
    around = tuple(
        d * (k - 1) - p for d, k, p in zip(conv.dilation, conv.kernel, conv.padding, strict=True)
    )
    if conv.groups == x.shape[1] == g.shape[1] and min(around) >= 0:
        return torch.conv2d(g, weight.flip(2, 3), None, 1, around, conv.dilation, conv.groups)
    return input_gradient(x, g, weight, conv)


def onednn(tensor: Tensor) -> bool:
    """Return whether oneDNN computes convolutions of this tensor."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _chooses(maps: Tensor, channels: int) -> bool:
    # The strides of a single channel are ambiguous, which torch 2.14 and oneDNN read differently.
    several = min(maps.shape[1], channels) > 1
    return several and onednn(maps) and maps.is_contiguous(memory_format=torch.channels_last)


def _one_pixel_each(conv: Geometry) -> bool:
    return conv.pointwise and conv.groups == 1 and conv.stride == (1, 1)


def _is_matrix_product(maps: Tensor) -> bool:
    """Whether a 1x1 convolution has so few pixels that setting up a convolution shows."""
    return maps.numel() < maps.shape[1] ** 2


def _multiply(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply every pixel of channels_last maps by a matrix [channels, new channels]."""
    B, _, H, W = maps.shape
    # Written into its place: a permuted product would be a view, which in-place layers refuse.
    shape = (B, weight.shape[1], H, W)
    result = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    pixels = maps.permute(0, 2, 3, 1).flatten(0, 2)
    target = result.permute(0, 2, 3, 1).flatten(0, 2)
    if bias is None:
        torch.mm(pixels, weight, out=target)
    else:
        torch.addmm(bias, pixels, weight, out=target)
    return result


def _onednn(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Run a 1x1 convolution by oneDNN, which conv2d passes over on one thread if B < 16."""
    return torch.ops.aten.mkldnn_convolution(maps, weight, bias, (0, 0), (1, 1), (1, 1), 1)
