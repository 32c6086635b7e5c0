"""Compiled activations that compute their derivative along with their values."""

import ctypes

import torch
from torch import Tensor

from .library import load, path_index


def gelu(x: Tensor, *, path: str | None = None) -> tuple[Tensor, Tensor]:
    """Return GELU (with the error function) and its derivative at every value, laid out as x.

    Args:
        x: float32 on the CPU, without gaps in memory.
        path: instruction set to force, one of `library.instruction_sets()`.
    """
    library = load()
    if library is None:
        raise ValueError("the CPU kernels are not built")
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"{x.dtype} on {x.device}: only float32 on the CPU is compiled")
    y, derivative = torch.empty_like(x), torch.empty_like(x)
    library.gelu_values(
        path_index(library, path),
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_int64(x.numel()),
        ctypes.c_int64(torch.get_num_threads()),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (y, derivative)),
    )
    return y, derivative
