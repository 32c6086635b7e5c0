"""CPU kernels: the compiled library of csrc/, if it was built, behind PyTorch tensors.

The library has one path per instruction set (AVX-512, AVX2, portable); the fastest that the
processor runs is taken. Nothing here raises when the library is missing: `available()` is False.
"""

import ctypes

import torch

from indexer.saliency.geometry import Geometry, Pair

from .library import check_status, instruction_sets, load, path_index

# Groups with fewer input channels than this fill a register tile badly: their channels go into
# the lanes of a vector instead, as in a depthwise convolution.
_NARROW_GROUP = 12


# Fields of `Problem` in csrc/problem.h, in order.
_FIELDS = """
    batch in_channels height width out_channels out_height out_width
    kernel_height kernel_width stride_height stride_width pad_height pad_width
    dilation_height dilation_width groups
    x_sample x_channel x_row x_pixel g_sample g_channel g_row g_pixel threads
"""


class _Problem(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in _FIELDS.split()]


def instruction_set() -> str:
    """Return the path that is taken: "avx512", "avx2", "portable", or "none" if not built."""
    return next(iter(instruction_sets()), "none")


def available() -> bool:
    """Return whether the compiled library is there and runs on this machine."""
    return bool(instruction_sets())


def why_not(x: torch.Tensor, g: torch.Tensor) -> str | None:
    """Return why the kernels cannot take these tensors, or None if they can.

    Args:
        x: layer input, any strides.
        g: gradient of the layer's output, any strides.
    """
    if not available():
        return "the CPU kernels are not built"
    if x.device.type != "cpu" or g.device.type != "cpu":
        return f"tensors on {x.device}, {g.device}"
    if x.dtype != torch.float32 or g.dtype != torch.float32:
        return f"dtypes {x.dtype}, {g.dtype}: only float32 is compiled"
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
    path: str | None = None,
) -> torch.Tensor:
    """Sum |per-sample weight gradient| over the weights of each filter.

    Linear layers are 1x1 convolutions: pass tokens [B, T, I] as `x.mT.unsqueeze(-1)`.

    Args:
        x: input float32 [B, I, H, W], any strides (channels_last is read in place).
        g: output gradient float32 [B, O, OH, OW], any strides.
        kernel_size: kernel height and width, as of `conv2d`.
        stride: as of `conv2d`.
        padding: zeros on both sides of height and width, as numbers.
        dilation: as of `conv2d`.
        groups: as of `conv2d`.
        path: instruction set to force, one of `instruction_sets()`.

    Returns:
        float32 [B, O], see the package docstring for the equation.

    Raises:
        ValueError: shapes that do not belong together, or tensors that `why_not` refuses.
    """
    group_inputs = x.shape[1] // groups
    kernel = "depthwise" if groups > 1 and group_inputs < _NARROW_GROUP else "dense"
    convolution = Geometry.of(kernel_size, stride, padding, dilation, groups)
    return _run(kernel, x, g, convolution, path)


def _run(
    kernel: str, x: torch.Tensor, g: torch.Tensor, convolution: Geometry, path: str | None
) -> torch.Tensor:
    reason = why_not(x, g)
    library = load()
    if reason or library is None:
        raise ValueError(f"no CPU kernel: {reason}")
    convolution.check(x, g)
    out = torch.empty(g.shape[:2], dtype=torch.float32)
    problem = _problem(x, g, convolution)
    status = getattr(library, f"rowsum_{kernel}")(
        path_index(library, path),
        ctypes.byref(problem),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, g, out)),
    )
    check_status(status)
    return out


def _problem(x: torch.Tensor, g: torch.Tensor, c: Geometry) -> _Problem:
    return _Problem(
        *x.shape,
        *g.shape[1:],
        *c.kernel,
        *c.stride,
        *c.padding,
        *c.dilation,
        c.groups,
        *x.stride(),
        *g.stride(),
        torch.get_num_threads(),
    )
