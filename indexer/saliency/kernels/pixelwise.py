"""Compiled products of every pixel, or token, with one matrix.

Those are the forward pass and the input gradient of 1x1 convolutions and linear layers.
"""

import ctypes

import torch
from torch import Tensor

from .cpu import why_not
from .finish import NOTHING, Finish, arguments
from .library import check_status, load, path_index

_LEAST_PIXELS = 96
"""With fewer pixels, packing the weights costs more than the library's product."""
_SMALL_MAP = 64

_FIELDS = """
    batch height width in_channels out_channels
    x_sample x_row x_pixel y_sample y_row y_pixel w_out w_in threads
"""


class _Pixelwise(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in _FIELDS.split()]


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply` can, and should, multiply maps x [B, I, H, W] by weight [O, I, ...]."""
    pixels = len(x) * x.shape[2] * x.shape[3]
    return why_not(x, weight) is None and x.stride(1) == 1 and pixels >= _LEAST_PIXELS


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply` is faster than oneDNN at multiplying maps x by weight [O, I, ...].

    oneDNN writes many channels faster, but takes its time to set up for small maps.
    """
    return weight.shape[0] <= weight.shape[1] or x.shape[2] * x.shape[3] <= _SMALL_MAP


def takes_tokens(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply_tokens` can, and should, multiply tokens x [..., I] by weight [O, I]."""
    enough = x.numel() >= _LEAST_PIXELS * x.shape[-1]
    return why_not(x, weight) is None and x.is_contiguous() and enough


def multiply(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    finish: Finish = NOTHING,
    *,
    out: Tensor | None = None,
    path: str | None = None,
) -> Tensor:
    """Multiply every pixel by a matrix, as `conv2d(x, weight[:, :, None, None], bias)`.

    Args:
        x: float32 [B, I, H, W] whose channels are contiguous; other strides are any.
        weight: float32 [O, I], any strides.
        bias: float32 [O].
        finish: what to do to the results.
        out: float32 [B, O, H, W] to write to, its channels contiguous.
        path: instruction set to force, one of `library.instruction_sets()`.

    Returns:
        `out`, or a new tensor, channels_last and without a graph.

    Raises:
        ValueError: shapes that do not belong together, or tensors that are not taken.
    """
    B, I, H, W = x.shape  # noqa: E741
    if I > 1 and x.stride(1) != 1:
        raise ValueError(f"the channels of {tuple(x.shape)}, {x.stride()} are not contiguous")
    y = out
    if y is None:
        y = torch.empty(B, len(weight), H, W, memory_format=torch.channels_last)
    if y.shape != (B, len(weight), H, W) or (len(weight) > 1 and y.stride(1) != 1):
        raise ValueError(f"no room for the result in {tuple(y.shape)}, {y.stride()}")
    grids = [maps.stride(axis) for maps in (x, y) for axis in (0, 2, 3)]
    return _run(x, weight, bias, y, finish, (B, H, W, I, len(weight), *grids), path)


def multiply_tokens(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    finish: Finish = NOTHING,
    *,
    path: str | None = None,
) -> Tensor:
    """Multiply every token by a matrix, as `linear(x, weight, bias)`.

    Args:
        x: float32 [..., I], contiguous.
        weight: float32 [O, I], any strides.
        bias: float32 [O].
        finish: what to do to the results.
        path: instruction set to force, one of `library.instruction_sets()`.

    Returns:
        float32 [..., O], contiguous, without a graph.
    """
    if not x.is_contiguous():
        raise ValueError(f"tokens {tuple(x.shape)}, {x.stride()} are not contiguous")
    y = torch.empty(*x.shape[:-1], len(weight))
    I, O = x.shape[-1], len(weight)  # noqa: E741
    return _run(x, weight, bias, y, finish, (1, 1, x.numel() // I, I, O, 0, 0, I, 0, 0, O), path)


def _run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    finish: Finish,
    shape: tuple[int, ...],
    path: str | None,
) -> Tensor:
    library, reason = load(), why_not(x, weight)
    if library is None or reason:
        raise ValueError(f"no CPU kernel: {reason}")
    channels, outputs = shape[3:5]
    if weight.shape != (outputs, channels):
        raise ValueError(f"{channels} channels do not fit weights {tuple(weight.shape)}")
    if bias is not None and (bias.shape != (outputs,) or bias.dtype != x.dtype):
        raise ValueError(f"a bias {tuple(bias.shape)} {bias.dtype} for {outputs} outputs")
    problem = _Pixelwise(*shape, *weight.stride(), torch.get_num_threads())
    structure, kept = arguments(finish, y, bias)
    status = library.multiply_pixels(
        path_index(library, path),
        ctypes.byref(problem),
        ctypes.byref(structure),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, weight, y)),
    )
    del kept
    check_status(status)
    return y
