"""Convolution problems for the kernel tests, and the reference they are compared with."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from indexer.saliency.geometry import Geometry, Size


@dataclass(frozen=True)
class Case:
    """Input and output gradient of one convolution, in a memory layout of choice."""

    convolution: Geometry
    x: torch.Tensor
    g: torch.Tensor

    @property
    def arguments(self) -> tuple:
        """Positional arguments of `conv_rowsum`."""
        c = self.convolution
        return (self.x, self.g, c.kernel, c.stride, c.padding, c.dilation, c.groups)


def reference(case: Case) -> torch.Tensor:
    """Row sums float64 [B, O], one sample at a time through autograd."""
    c = case.convolution
    shape = (case.g.shape[1], case.x.shape[1] // c.groups, *c.kernel)
    rows = []
    for x, g in zip(case.x.double(), case.g.double(), strict=True):
        weight = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        y = torch.nn.functional.conv2d(
            x[None], weight, None, c.stride, c.padding, c.dilation, c.groups
        )
        (gradient,) = torch.autograd.grad(y, weight, g[None])
        rows.append(gradient.abs().flatten(1).sum(1))
    return torch.stack(rows) if rows else torch.zeros(case.g.shape[:2], dtype=torch.float64)


def make(
    convolution: Geometry,
    batch: int,
    in_channels: int,
    out_channels: int,
    size: tuple[int, int],
    layout: str = "channels_last",
    seed: int = 0,
) -> Case:
    """Build a case with normal values; layouts: contiguous, channels_last, sliced."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, in_channels, *size, generator=generator)
    g = torch.randn(batch, out_channels, *convolution.output_size(*size), generator=generator)
    return Case(convolution, _lay_out(x, layout), _lay_out(g, layout))


def _lay_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "contiguous":
        return tensor
    if layout == "channels_last":
        return tensor.to(memory_format=torch.channels_last)
    wide = torch.full((*tensor.shape[:2], tensor.shape[2] + 1, 2 * tensor.shape[3]), torch.nan)
    wide[:, :, 1:, ::2] = tensor
    return wide[:, :, 1:, ::2]


@st.composite
def cases(draw: st.DrawFn, max_channels: int = 70) -> Case:
    """Any convolution whose output is not empty."""
    numbers = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    groups = draw(st.sampled_from([1, 1, 1, 2, 5]))
    kernel = Size(numbers(1, 5), numbers(1, 8))
    dilation = Size(numbers(1, 2), numbers(1, 3))
    padding = Size(numbers(0, 3), numbers(0, 3))
    convolution = Geometry(kernel, Size(numbers(1, 3), numbers(1, 3)), padding, dilation, groups)
    least = [
        max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    return make(
        convolution,
        batch=numbers(0, 3),
        in_channels=groups * numbers(1, max_channels // groups),
        out_channels=groups * numbers(1, max_channels // groups),
        size=(least[0] + numbers(0, 8), least[1] + numbers(0, 12)),
        layout=draw(st.sampled_from(["contiguous", "channels_last", "sliced"])),
        seed=numbers(0, 2**16),
    )


def relative_error(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Frobenius norm of the difference over that of the expected values."""
    scale = expected.norm().clamp_min(torch.finfo(torch.float32).tiny)
    return float((values.double().cpu() - expected).norm() / scale)
