"""How a convolution slides over its input, normalized once for every formula and kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Pair = int | Sequence[int]


class Size(NamedTuple):
    """A pair along height and width."""

    height: int
    width: int


def pair(value: Pair) -> Size:
    """Return `value` as (height, width)."""
    return Size(value, value) if isinstance(value, int) else Size(value[0], value[-1])


@dataclass(frozen=True)
class Geometry:
    """The arguments of `torch.conv2d` after the bias."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    groups: int

    @classmethod
    def of(
        cls,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> "Geometry":
        """Build from numbers or pairs."""
        return cls(pair(kernel_size), pair(stride), pair(padding), pair(dilation), groups)

    @property
    def taps(self) -> int:
        """Number of kernel taps, K."""
        return self.kernel.height * self.kernel.width

    @property
    def pointwise(self) -> bool:
        """Whether every position meets exactly one input pixel, without padding."""
        return self.kernel == (1, 1) and self.padding == (0, 0)

    def met(self, x: Tensor) -> Tensor:
        """View the pixels of x [B, I, H, W] that a pointwise convolution meets."""
        return x[:, :, :: self.stride.height, :: self.stride.width]

    def output_size(self, height: int, width: int) -> Size:
        """Return the size of the output map for an input map."""
        sizes = zip(
            (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
        )
        return Size(*((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes))

    def positions(self, x: Tensor) -> int:
        """Number of output positions P for an input [B, I, H, W]."""
        size = self.output_size(x.shape[2], x.shape[3])
        return size.height * size.width

    def check(self, x: Tensor, g: Tensor) -> None:
        """Raise ValueError unless x [B, I, H, W] and g [B, O, OH, OW] belong together."""
        if x.ndim != 4 or g.ndim != 4 or x.shape[0] != g.shape[0]:
            raise ValueError(f"expected x [B,I,H,W], g [B,O,OH,OW]: {x.shape}, {g.shape}")
        if self.groups < 1 or x.shape[1] % self.groups or g.shape[1] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {x.shape[1]}, {g.shape[1]}")
        if min(self.kernel) < 1 or min(self.stride) < 1 or min(self.dilation) < 1:
            raise ValueError(f"kernel, stride and dilation must be positive: {self}")
        if min(self.padding) < 0:
            raise ValueError(f"padding must not be negative: {self.padding}")
        expected = self.output_size(x.shape[2], x.shape[3])
        if (g.shape[2], g.shape[3]) != expected:
            raise ValueError(f"gradient map {tuple(g.shape[2:])}, but the output is {expected}")


def of_call(
    x: Tensor, weight: Tensor, stride: Pair, padding: Pair | str, dilation: Pair, groups: int
) -> tuple[Tensor, Geometry]:
    """Return input and geometry of a call of `conv2d`; one-sided padding is applied to x itself.

    Args:
        x: input [B, I, H, W].
        weight: [O, I / groups, kh, kw].
        stride: as of `conv2d`.
        padding: as of `conv2d`, "same" and "valid" included.
        dilation: as of `conv2d`.
        groups: as of `conv2d`.
    """
    kernel, dilation = pair(weight.shape[2:]), pair(dilation)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(t % 2 for t in total):  # as torch does: the odd pixel goes to the bottom and right
            x = F.pad(x, (0, total[1] % 2, 0, total[0] % 2))
        padding = [t // 2 for t in total]
    elif isinstance(padding, str):
        padding = 0
    return x, Geometry.of(kernel, stride, padding, dilation, groups)
