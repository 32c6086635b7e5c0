"""The arithmetic of a run: what is float32, what may be less, and where that is pinned."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn

from indexer.errors import ModelError, SettingError
from indexer.filters import FilterLayout
from indexer.switches import switched

from .layout import layer_weights

PRECISIONS = ("fp32", "tf32", "bf16", "amp", "fp64")
"""fp32: IEEE float32 throughout, TF32 off. tf32: TensorFloat-32 convolutions and products.
bf16: float32, but bfloat16 operands in the weight-gradient products. amp: bfloat16 autocast of the
whole model. fp64: float64 throughout, on a converted copy of the model."""

_SWITCHES = (
    torch.backends.cuda.matmul,
    getattr(torch.backends.cudnn, "conv"),  # noqa: B009 (made at import, unknown to type checkers)
    getattr(torch.backends.mkldnn, "matmul"),  # noqa: B009
    getattr(torch.backends.mkldnn, "conv"),  # noqa: B009
)


def with_precision(model: nn.Module, layout: FilterLayout, precision: str) -> nn.Module:
    """Return the model to run at a precision: the given one, or a float64 copy for "fp64".

    Raises:
        SettingError: `precision` is none of PRECISIONS.
        ModelError: the unit weights are not float32 where the precision needs that.
    """
    if precision not in PRECISIONS:
        raise SettingError(f"unknown precision {precision!r}: choose from {', '.join(PRECISIONS)}")
    dtypes = {weight.dtype for weight in layer_weights(model, layout)}
    wanted = torch.float64 if precision == "fp64" else torch.float32
    if dtypes == {wanted}:
        return model
    if precision == "fp64":
        return deepcopy(model).double()
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    raise ModelError(f"precision {precision!r} needs float32 weights, the model has {names}")


def pinned(precision: str) -> AbstractContextManager[None]:
    """Pin how float32 convolutions and matrix products compute; restore the switches on leaving.

    cuDNN convolutions use TF32 unless told otherwise, so a run's precision would depend on
    defaults that differ between operations and versions.
    """
    return switched(_SWITCHES, "fp32_precision", "tf32" if precision == "tf32" else "ieee")


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context in which the model's forward pass runs."""
    if precision == "amp":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def operand(precision: str, tensor: Tensor) -> Tensor:
    """Cast an operand of a weight-gradient product as the precision asks."""
    return tensor.bfloat16() if precision == "bf16" else tensor
