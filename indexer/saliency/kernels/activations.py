"""Compiled activations that compute their derivative along with their values."""

import ctypes
from enum import IntEnum

import torch
from torch import Tensor

from .library import load, path_index


class Curve(IntEnum):
    """An activation, by its number in csrc/problem.h."""

    GELU = 0
    """With the error function."""
    SILU = 1
    HARDSWISH = 2


def activate(
    x: Tensor, curve: Curve, *, in_place: bool = False, path: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return an activation and its derivative at every value, laid out as x.

    Args:
        x: float32 on the CPU, without gaps in memory.
        curve: the activation.
        in_place: write the values to x.
        path: instruction set to force, one of `library.instruction_sets()`.
    """
    library = load()
    if library is None:
        raise ValueError("the CPU kernels are not built")
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"{x.dtype} on {x.device}: only float32 on the CPU is compiled")
    y, derivative = x if in_place else torch.empty_like(x), torch.empty_like(x)
    library.activate_values(
        path_index(library, path),
        ctypes.c_int64(curve),
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_int64(x.numel()),
        ctypes.c_int64(torch.get_num_threads()),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (y, derivative)),
    )
    return y, derivative
