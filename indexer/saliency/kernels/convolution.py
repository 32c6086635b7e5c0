"""Compiled 3x3 convolutions of stride 1, forward and with respect to the input.

Winograd's algorithm needs 16 multiplications where the direct one needs 36, at the same rounding
error; the library's direct convolutions leave that gain unused. Two of the three products of a
training step are of this kind, the third is the weight gradient of `cpu.conv_rowsum`.
"""

import ctypes

import torch
from torch import Tensor

from indexer.saliency.geometry import Pair, pair

from .cpu import why_not as why_not_rowsum
from .finish import NOTHING, Finish, arguments
from .library import check_status, load, path_index

# Channels that the kernel multiplies at once, and filters in two vectors of the widest path.
_CHANNELS, _FILTERS = 64, 32
# With fewer tiles of 2x2 outputs, transforming the weights costs more than the multiplications
# saved. Weights that are contiguous along neither kind of channel are transformed one by one.
_LEAST_TILES, _LEAST_TILES_SCATTERED = 8, 300

# Fields of `Convolution` in csrc/problem.h, in order.
_FIELDS = """
    batch in_channels height width out_channels out_height out_width pad_height pad_width
    x_sample x_row x_pixel w_out w_in w_row w_column y_sample y_row threads
"""


class _Convolution(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in _FIELDS.split()]


def why_not(x: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int) -> str | None:
    """Return why `convolve` cannot, or should not, compute this convolution; None if it should.

    Args:
        x: input [B, I, H, W].
        weight: [O, I / groups, kh, kw].
        stride: as of `conv2d`.
        dilation: as of `conv2d`.
        groups: as of `conv2d`.
    """
    if weight.shape[2:] != (3, 3) or groups != 1 or {*pair(stride), *pair(dilation)} != {1}:
        return "only 3x3 convolutions of stride 1 are compiled"
    if reason := why_not_rowsum(x, weight):
        return reason
    if weight.shape[1] % _CHANNELS or weight.shape[0] % _CHANNELS:
        return f"channels {weight.shape[1]}, {weight.shape[0]} are no multiples of {_CHANNELS}"
    if not x.is_contiguous(memory_format=torch.channels_last):
        return "the input is not channels_last"
    tiles = len(x) * ((x.shape[2] + 1) // 2) * ((x.shape[3] + 1) // 2)
    least = _LEAST_TILES if 1 in weight.stride()[:2] else _LEAST_TILES_SCATTERED
    return f"only {tiles} tiles of 2x2 outputs" if tiles < least else None


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: Pair = 0,
    *,
    path: str | None = None,
) -> Tensor:
    """Convolve, as `conv2d(x, weight, bias, padding=padding)`.

    Args:
        x: float32 [B, I, H, W], channels_last; I a multiple of 64.
        weight: float32 [O, I, 3, 3], any strides; O a multiple of 32.
        bias: float32 [O].
        padding: zeros on both sides of height and width, as numbers.
        path: instruction set to force, one of `library.instruction_sets()`.

    Returns:
        float32 [B, O, H + 2 * padding - 2, W + 2 * padding - 2], channels_last, without a graph.
    """
    return _convolve(x, weight, bias, padding, weight.stride(), weight.data_ptr(), NOTHING, path)


def input_gradient(
    g: Tensor,
    weight: Tensor,
    padding: Pair = 0,
    finish: Finish = NOTHING,
    *,
    path: str | None = None,
) -> Tensor:
    """Differentiate a 3x3 convolution of stride 1 by its input.

    That is the convolution of `g` with the weight transposed and reversed in both directions.

    Args:
        g: output gradient float32 [B, O, OH, OW], channels_last; O a multiple of 64.
        weight: float32 [O, I, 3, 3], any strides; I a multiple of 32.
        padding: of the convolution, at most 2.
        finish: what to do to the gradient.
        path: instruction set to force, one of `library.instruction_sets()`.

    Returns:
        float32 [B, I, H, W], channels_last.
    """
    out, inputs, row, column = weight.stride()
    last = weight.data_ptr() + weight.element_size() * 2 * (row + column)
    around = (2 - pair(padding).height, 2 - pair(padding).width)
    return _convolve(
        g, weight.transpose(0, 1), None, around, (inputs, out, -row, -column), last, finish, path
    )


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Pair,
    weight_strides: tuple[int, ...],
    weight_start: int,
    finish: Finish,
    path: str | None,
) -> Tensor:
    library = load()
    if library is None:
        raise ValueError("the CPU kernels are not built")
    B, channels, H, W = x.shape
    pad = pair(padding)
    _check(x, weight, bias, pad)
    shape = (B, len(weight), H + 2 * pad.height - 2, W + 2 * pad.width - 2)
    y = torch.empty(shape, memory_format=torch.channels_last)
    x_sample, _, x_row, x_pixel = x.stride()
    convolution = _Convolution(
        B, channels, H, W, *shape[1:], *pad, x_sample, x_row, x_pixel, *weight_strides,
        y.stride(0), y.stride(2), torch.get_num_threads(),
    )  # fmt: skip
    structure, kept = arguments(finish, y, bias)
    status = library.convolve_3x3(
        path_index(library, path),
        ctypes.byref(convolution),
        ctypes.byref(structure),
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_void_p(weight_start),
        ctypes.c_void_p(y.data_ptr()),
    )
    del kept
    check_status(status)
    return y


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, pad: tuple[int, int]) -> None:
    tensors = [tensor for tensor in (x, weight, bias) if tensor is not None]
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in tensors):
        raise ValueError("only float32 tensors on the CPU are compiled")
    if x.stride(1) != 1 or x.shape[1] % _CHANNELS or len(weight) % _FILTERS:
        raise ValueError(f"channels do not fit: x {tuple(x.shape)}, weight {tuple(weight.shape)}")
    if weight.shape[1:] != (x.shape[1], 3, 3) or (bias is not None and len(bias) != len(weight)):
        raise ValueError(f"no 3x3 layer: x {tuple(x.shape)}, weight {tuple(weight.shape)}")
    if min(pad) < 0 or min(x.shape[2] + 2 * pad[0], x.shape[3] + 2 * pad[1]) < 3:
        raise ValueError(f"no output: map {tuple(x.shape[2:])} with padding {tuple(pad)}")
