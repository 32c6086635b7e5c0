"""GPU kernels in Triton behind PyTorch tensors: the functions of `cpu` for CUDA devices.

Operands are float32, bfloat16 or float16, sums always float32. Float32 operands are multiplied
exactly ("ieee") or on tensor cores ("tf32"). Triton's interpreter (TRITON_INTERPRET=1 before the
first import) runs the same kernels on CPU tensors: so their values are tested without a GPU.
"""

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from indexer.saliency.geometry import Geometry, Pair

PRECISIONS = ("ieee", "tf32")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# `tl.dot` needs blocks of at least 16; narrower groups would multiply mostly zeros.
_NARROW_GROUP = 16
_BLOCK_K = 32
_BLOCK_J = 64
_MAX_BLOCK_O = 64
_DEPTHWISE_BLOCK_O = 32
_DEPTHWISE_BLOCK_K = 64
# Programs that keep a large GPU busy; columns are split over programs until there are as many.
_PROGRAMS = 1024


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def available() -> bool:
    """Return whether Triton is installed and there is a CUDA device (or its interpreter is on)."""
    if find_spec("triton") is None:
        return False
    return _interpreted() or (torch.cuda.is_available() and torch.version.hip is None)


def _kernels() -> Any:
    """Import Triton at the first call, since most installations never need it."""
    from . import triton_kernels

    return triton_kernels


def why_not(x: torch.Tensor, g: torch.Tensor) -> str | None:
    """Return why the kernels cannot take these tensors, or None if they can.

    Args:
        x: layer input, any strides.
        g: gradient of the layer's output, any strides.
    """
    if not available():
        return "no CUDA device, or Triton is not installed"
    if x.device != g.device or (x.device.type != "cuda" and not _interpreted()):
        return f"tensors on {x.device}, {g.device}"
    if x.dtype != g.dtype or x.dtype not in _DTYPES:
        return f"dtypes {x.dtype}, {g.dtype}: both float32, bfloat16 or float16 are needed"
    return None


def supports(x: torch.Tensor, g: torch.Tensor) -> bool:
    """Return whether `conv_rowsum` takes these tensors; `why_not` gives the reason."""
    return why_not(x, g) is None


def conv_rowsum(
    x: torch.Tensor,
    g: torch.Tensor,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    precision: str = "ieee",
) -> torch.Tensor:
    """Sum |per-sample weight gradient| over the weights of each filter.

    Linear layers are 1x1 convolutions: pass tokens [B, T, I] as `x.mT.unsqueeze(-1)`.

    Args:
        x: input [B, I, H, W], any strides; channels_last reads best.
        g: output gradient [B, O, OH, OW] of the same dtype, any strides.
        kernel_size: kernel height and width, as of `conv2d`.
        stride: as of `conv2d`.
        padding: zeros on both sides of height and width, as numbers.
        dilation: as of `conv2d`.
        groups: as of `conv2d`.
        precision: of the products of float32 tensors, one of `PRECISIONS`.

    Returns:
        float32 [B, O], see the package docstring for the equation.

    Raises:
        ValueError: shapes that do not belong together, or tensors that `why_not` refuses.
    """
    convolution = Geometry.of(kernel_size, stride, padding, dilation, groups)
    _check(x, g, convolution, precision)
    if groups > 1 and x.shape[1] // groups < _NARROW_GROUP:
        return _depthwise(x, g, convolution)
    return _dense(x, g, convolution, precision)


def depthwise_rowsum(
    x: torch.Tensor,
    g: torch.Tensor,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> torch.Tensor:
    """Sum |per-sample weight gradient| per filter where each input channel is a group of its own.

    Arguments, result and errors as of `conv_rowsum` with `groups` = I; O is a multiple of I.
    """
    convolution = Geometry.of(kernel_size, stride, padding, dilation, x.shape[1])
    _check(x, g, convolution, "ieee")
    return _depthwise(x, g, convolution)


def _check(x: torch.Tensor, g: torch.Tensor, convolution: Geometry, precision: str) -> None:
    if reason := why_not(x, g):
        raise ValueError(f"no GPU kernel: {reason}")
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}: {', '.join(PRECISIONS)}")
    convolution.check(x, g)


def column_splits(programs: int, columns: int) -> tuple[int, int]:
    """Return (splits, columns per split) that bring `programs` to about the wanted number."""
    blocks = -(-columns // _BLOCK_J)
    splits = min(blocks, max(1, _PROGRAMS // max(1, programs)))
    per_split = -(-blocks // splits)
    return -(-blocks // per_split), per_split * _BLOCK_J


def _dense(x: torch.Tensor, g: torch.Tensor, c: Geometry, precision: str) -> torch.Tensor:
    B, _, height, width = x.shape
    filters, inputs = g.shape[1] // c.groups, x.shape[1] // c.groups
    columns, positions = inputs * c.kernel.height * c.kernel.width, g.shape[2] * g.shape[3]
    block_o = min(_MAX_BLOCK_O, max(16, 1 << (filters - 1).bit_length()))
    samples, blocks = B * c.groups, -(-filters // block_o)
    splits, per_split = column_splits(samples * blocks, columns)
    out = torch.empty((splits, samples, filters), dtype=torch.float32, device=x.device)
    if out.numel():
        _kernels().dense_kernel[(samples, blocks, splits)](
            x, g, out,
            c.groups, inputs, height, width, filters, g.shape[3], positions, columns,
            c.kernel.width, *c.stride, *c.padding, *c.dilation,
            *x.stride(), *g.stride(), per_split,
            PRECISION=precision,
            WIDEN=_interpreted(),  # its products know no bfloat16
            BLOCK_O=block_o, BLOCK_J=_BLOCK_J, BLOCK_K=_BLOCK_K,
        )  # fmt: skip
    return out.sum(0).view(B, g.shape[1])


def _depthwise(x: torch.Tensor, g: torch.Tensor, c: Geometry) -> torch.Tensor:
    B, channels, height, width = x.shape
    filters = g.shape[1]
    out = torch.empty((c.kernel.height, B, filters), dtype=torch.float32, device=x.device)
    if out.numel():
        _kernels().depthwise_kernel[(B, -(-filters // _DEPTHWISE_BLOCK_O), c.kernel.height)](
            x, g, out,
            channels // c.groups, height, width, filters, *g.shape[2:], filters // c.groups,
            c.kernel.width, *c.stride, *c.padding, *c.dilation,
            *x.stride(), *g.stride(),
            BLOCK_O=_DEPTHWISE_BLOCK_O, BLOCK_K=_DEPTHWISE_BLOCK_K,
        )  # fmt: skip
    return out.sum(0)
