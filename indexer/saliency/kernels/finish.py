"""What is done to a kernel's outputs before they are written, and the same done apart.

A gradient that a layer computes often goes through the derivative of an activation next, and is
added to the gradient of another branch. Within the kernel that computes it, neither costs a pass
through memory.
"""

import ctypes
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from .library import load, path_index


class Gate(IntEnum):
    """How `Finish.factor` gates a gradient; the values are those of csrc/problem.h."""

    OPEN = 0
    POSITIVE = 1
    FACTOR = 2


@dataclass(frozen=True, eq=False)
class Finish:
    """Additions and a gate for the values of a gradient y.

    Attributes:
        residual: added first, of y's shape.
        factor: of y's shape. For `Gate.FACTOR`, the derivative that y is multiplied by; for
            `Gate.POSITIVE` the output of a ReLU, whose gradient is zero where the output is not
            positive.
        gate: what `factor` is.
    """

    residual: Tensor | None = None
    factor: Tensor | None = None
    gate: Gate = Gate.OPEN


NOTHING = Finish()


class _Finish(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("bias", "residual", "factor")),
        ("gate", ctypes.c_int64),
    ]


def arguments(finish: Finish, y: Tensor, bias: Tensor | None = None) -> tuple[_Finish, list]:
    """Return the C structure for outputs y, and the tensors that it points to."""
    tensors = [bias if bias is None else bias.contiguous()]
    tensors += [_laid_out(tensor, y) for tensor in (finish.residual, finish.factor)]
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return _Finish(*pointers, finish.gate), tensors


def _laid_out(tensor: Tensor | None, y: Tensor) -> Tensor | None:
    if tensor is None:
        return None
    if tensor.shape != y.shape or tensor.dtype != y.dtype:
        raise ValueError(f"{tuple(tensor.shape)} {tensor.dtype} for outputs {tuple(y.shape)}")
    if tensor.stride() == y.stride():
        return tensor
    return torch.empty_strided(y.shape, y.stride(), dtype=y.dtype).copy_(tensor)


def finish_(y: Tensor, finish: Finish, *, path: str | None = None) -> Tensor:
    """Finish a gradient, in place where it has no gaps in memory, and return it.

    Args:
        y: float32 on the CPU.
        finish: what to do.
        path: instruction set to force, one of `library.instruction_sets()`.
    """
    if finish is NOTHING:
        return y
    library = load()
    if library is None:
        raise ValueError("the CPU kernels are not built")
    if not (y.is_contiguous() or y.is_contiguous(memory_format=torch.channels_last)):
        y = y.contiguous()
    structure, kept = arguments(finish, y)
    library.finish_values(
        path_index(library, path),
        ctypes.byref(structure),
        ctypes.c_int64(y.numel()),
        ctypes.c_int64(torch.get_num_threads()),
        ctypes.c_void_p(y.data_ptr()),
    )
    del kept
    return y
