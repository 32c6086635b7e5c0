"""GPU kernels in Triton behind PyTorch tensors: the function of `cpu` for CUDA devices.

Operands are float32, bfloat16 or float16, sums always float32. Float32 operands are multiplied
exactly ("ieee") or on tensor cores ("tf32"). Triton's interpreter (TRITON_INTERPRET=1 before the
first import) runs the same kernels on CPU tensors: so their values are tested without a GPU.
"""

import math
import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from indexer.saliency.geometry import Geometry, Pair

from .blocks import COLUMNS, SMALLEST, Blocks, choices, fitted

PRECISIONS = ("ieee", "tf32")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_POSITIONS = 1 << 20
"""Below, a product with 1 / width tells the row of a position."""
_DEPTHWISE_CHANNELS = 32
_DEPTHWISE_POSITIONS = 64
# Programs that keep a large GPU busy; weights are split over programs until there are as many.
_PROGRAMS = 4096


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def available() -> bool:
    """Return whether Triton is installed and there is a CUDA device (or its interpreter is on)."""
    if find_spec("triton") is None:
        return False
    return _interpreted() or (torch.cuda.is_available() and torch.version.hip is None)


def on_gpu(x: Tensor) -> bool:
    """Whether a tensor is on a CUDA device, or the interpreter lets the CPU pass for one."""
    return x.is_cuda or _interpreted()


def why_not(x: Tensor, g: Tensor) -> str | None:
    """Return why the kernels cannot take these tensors, or None if they can.

    Args:
        x: layer input [B, I, H, W], any strides.
        g: gradient of the layer's output, any strides.
    """
    if not available():
        return "no CUDA device, or Triton is not installed"
    if x.device != g.device or not on_gpu(x):
        return f"tensors on {x.device}, {g.device}"
    if x.dtype != g.dtype or x.dtype not in _DTYPES:
        return f"dtypes {x.dtype}, {g.dtype}: both float32, bfloat16 or float16 are needed"
    if math.prod(g.shape[2:]) > MAX_POSITIONS:
        return f"a map of {math.prod(g.shape[2:])} positions"
    return None


def supports(x: Tensor, g: Tensor) -> bool:
    """Return whether `conv_rowsum` takes these tensors; `why_not` gives the reason."""
    return why_not(x, g) is None


@dataclass(frozen=True)
class Launch:
    """A kernel with all that it is called with.

    Attributes:
        kernel: its name in `triton_kernels`.
        grid: programs along three axes.
        arguments: positional, `x`, `g` and `out` first.
        options: compile-time constants and options.
        out: float32 [parts, ...], to be summed over the parts.
    """

    kernel: str
    grid: tuple[int, ...]
    arguments: tuple
    options: dict[str, Any]
    out: Tensor

    @property
    def function(self) -> Any:
        """The kernel; Triton is imported at the first call, since many never need it."""
        from . import triton_kernels

        return getattr(triton_kernels, self.kernel)

    def run(self) -> Tensor:
        """Run the kernel and add up its parts: [...]."""
        if self.out.numel():
            with torch.cuda.device_of(self.out):  # Triton launches on the current device
                self.function[self.grid](*self.arguments, **self.options)
        return self.out[0] if len(self.out) == 1 else self.out.sum(0)


def conv_rowsum(
    x: Tensor,
    g: Tensor,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
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
        blocks: of a program; by default the first of `block_choices`.

    Returns:
        float32 [B, O], see the package docstring for the equation.

    Raises:
        ValueError: shapes that do not belong together, or tensors that `why_not` refuses.
    """
    convolution = Geometry.of(kernel_size, stride, padding, dilation, groups)
    if reason := why_not(x, g):
        raise ValueError(f"no GPU kernel: {reason}")
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}: {', '.join(PRECISIONS)}")
    convolution.check(x, g)
    return launch(x, g, convolution, precision, blocks).run().view(g.shape[:2])


def block_choices(
    x: Tensor, g: Tensor, convolution: Geometry, precision: str = "ieee"
) -> tuple[Blocks | None, ...]:
    """Return what `blocks` of `conv_rowsum` are worth a try; None alone where there is no choice.

    Args:
        x: [B, I, H, W].
        g: [B, O, OH, OW].
        convolution: of the layer.
        precision: one of `PRECISIONS`.
    """
    inputs = x.shape[1] // convolution.groups
    if inputs < SMALLEST:
        return (None,)
    filters, positions = g.shape[1] // convolution.groups, g.shape[2] * g.shape[3]
    return choices(x.dtype, precision, filters, inputs, positions)


def launch(
    x: Tensor, g: Tensor, convolution: Geometry, precision: str, blocks: Blocks | None = None
) -> Launch:
    """Prepare the kernel for a layer; arguments as of `conv_rowsum`."""
    if blocks is None:
        blocks = block_choices(x, g, convolution, precision)[0]
    if blocks is not None:
        return _taps(x, g, convolution, precision, blocks)
    if convolution.groups > 1:
        return _depthwise(x, g, convolution)
    return _columns(x, g, convolution, precision)


def spread(programs: int, tiles: int) -> tuple[int, int]:
    """Return (splits, tiles per split) that bring `programs` to about the wanted number."""
    splits = min(tiles, -(-_PROGRAMS // max(1, programs)))
    per_split = -(-tiles // splits)
    return -(-tiles // per_split), per_split


def _taps(x: Tensor, g: Tensor, c: Geometry, precision: str, blocks: Blocks) -> Launch:
    flat = c.pointwise and c.stride == (1, 1) and _gapless(x) and _gapless(g)
    if flat:
        x, g = _in_a_row(x), _in_a_row(g)
    samples, inputs, filters = len(x) * c.groups, x.shape[1] // c.groups, g.shape[1] // c.groups
    units = _unit(x, inputs), _unit(g, filters)
    programs = samples * -(-filters // blocks.filters)
    tiles = c.taps * -(-inputs // blocks.inputs)
    splits, per_split = spread(programs, tiles)
    out = torch.empty((splits, samples, filters), dtype=torch.float32, device=x.device)
    arguments = (
        x, g, out, c.groups, inputs // units[0], *x.shape[2:], filters // units[1], *g.shape[2:],
        *_sliding(c), *_strides(x, units[0]), *_strides(g, units[1]), tiles, per_split, splits,
    )  # fmt: skip
    options = _options(blocks, units, precision) | {"FLAT": flat}
    return Launch("taps_kernel", (programs * splits,), arguments, options, out)


def _columns(x: Tensor, g: Tensor, c: Geometry, precision: str) -> Launch:
    samples, inputs, filters = len(x) * c.groups, x.shape[1] // c.groups, g.shape[1] // c.groups
    units = _unit(x, inputs), _unit(g, filters)
    columns, positions = inputs * c.taps, g.shape[2] * g.shape[3]
    blocks = fitted(COLUMNS, filters, columns, positions)
    programs = samples * -(-filters // blocks.filters)
    splits, per_split = spread(programs, -(-columns // blocks.inputs))
    out = torch.empty((splits, samples, filters), dtype=torch.float32, device=x.device)
    arguments = (
        x, g, out, c.groups, inputs // units[0], *x.shape[2:], filters // units[1], g.shape[3],
        positions, columns, *_sliding(c), *_strides(x, units[0]), *_strides(g, units[1]),
        per_split * blocks.inputs,
    )  # fmt: skip
    grid = (samples, programs // max(1, samples), splits)
    return Launch("columns_kernel", grid, arguments, _options(blocks, units, precision), out)


def _depthwise(x: Tensor, g: Tensor, c: Geometry) -> Launch:
    B, filters = g.shape[:2]
    units = _unit(x), _unit(g, filters)
    out = torch.empty((c.kernel.height, B, filters), dtype=torch.float32, device=x.device)
    arguments = (
        x, g, out, x.shape[1] // c.groups, *x.shape[2:], filters // units[1], *g.shape[2:],
        filters // c.groups, *_sliding(c)[1:], *_strides(x, units[0]), *_strides(g, units[1]),
    )  # fmt: skip
    options = {
        "X_UNIT": units[0], "G_UNIT": units[1], "KW": c.kernel.width,
        "BLOCK_O": _DEPTHWISE_CHANNELS, "BLOCK_K": _DEPTHWISE_POSITIONS,
    }  # fmt: skip
    grid = (B, -(-filters // _DEPTHWISE_CHANNELS), c.kernel.height)
    return Launch("depthwise_kernel", grid, arguments, options, out)


def _options(blocks: Blocks, units: tuple[int, int], precision: str) -> dict[str, Any]:
    return {
        "X_UNIT": units[0], "G_UNIT": units[1], "PRECISION": precision,
        "WIDEN": _interpreted(),  # its products know no bfloat16
        "BLOCK_O": blocks.filters, "BLOCK_I": blocks.inputs, "BLOCK_K": blocks.positions,
        "num_warps": blocks.warps, "num_stages": blocks.stages,
    }  # fmt: skip


def _sliding(c: Geometry) -> tuple[int, ...]:
    return (c.kernel.width, *c.stride, *c.padding, *c.dilation)


def _unit(maps: Tensor, *channels: int) -> int:
    """Largest power of two, up to 16, in which the kernels can count strides and channels."""
    sample, _, row, pixel = maps.stride()
    return math.gcd(16, sample, row, pixel, *channels)


def _strides(maps: Tensor, unit: int) -> tuple[int, int, int, int]:
    sample, channel, row, pixel = maps.stride()
    return sample // unit, channel, row // unit, pixel // unit


def _gapless(maps: Tensor) -> bool:
    """Whether one stride leads through all positions."""
    return 1 in maps.shape[2:] or maps.stride(2) == maps.shape[3] * maps.stride(3)


def _in_a_row(maps: Tensor) -> Tensor:
    """View gapless maps [B, C, H, W] as [B, C, 1, H * W]."""
    return maps.flatten(2).unsqueeze(2)
