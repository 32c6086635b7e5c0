"""Errors of the Triton kernels under Triton's interpreter, as JSON on stdout.

The interpreter must be chosen before Triton is imported, so this runs as a process of its own:
`TRITON_INTERPRET=1 python -m tests.indexer.saliency.kernels.interpreted`.
"""

import json

import torch

from indexer.saliency.geometry import Geometry
from indexer.saliency.kernels import gpu

from .cases import Case, make, reference, relative_error

# (kernel, stride, padding, dilation, groups), input channels, output channels, map
LAYERS = {
    "3x3": ((3, 1, 1, 1, 1), 20, 24, (7, 8)),
    "3x3 strided and dilated": ((3, 2, 1, 2, 1), 33, 33, (9, 9)),
    "2x5": (((2, 5), (1, 2), (0, 2), 1, 1), 5, 18, (6, 9)),
    "1x1": ((1, 1, 0, 1, 1), 24, 70, (9, 9)),
    "1x1 strided": ((1, 2, 0, 1, 1), 16, 20, (8, 7)),
    "stem 7x7": ((7, 2, 3, 1, 1), 3, 32, (17, 16)),
    "wide groups": ((3, 1, 1, 1, 2), 40, 44, (6, 6)),
    "narrow groups": ((3, 1, 1, 1, 4), 16, 20, (7, 7)),
    "depthwise": ((5, 2, 2, 1, 24), 24, 24, (9, 9)),
    "depthwise multiplied": ((3, 1, 1, 2, 12), 12, 24, (7, 6)),
}
LAYOUTS = ("contiguous", "channels_last", "sliced")


def cases() -> dict[str, Case]:
    """Return every layer, the memory layouts in turn."""
    return {
        name: make(Geometry.of(*geometry), 2, inputs, outputs, size, LAYOUTS[i % len(LAYOUTS)])
        for i, (name, (geometry, inputs, outputs, size)) in enumerate(LAYERS.items())
    }


def bfloat16_error(case: Case) -> float:
    """Error with bfloat16 operands against the exact row sums of the rounded operands."""
    rounded = Case(case.convolution, case.x.bfloat16(), case.g.bfloat16())
    return relative_error(gpu.conv_rowsum(*rounded.arguments), reference(rounded))


def linear_error() -> float:
    """Error of the rows of a linear layer over tokens."""
    x, g = torch.randn(2, 37, 20), torch.randn(2, 37, 18)
    expected = torch.einsum("bto,bti->boi", g.double(), x.double()).abs().sum(2)
    rows = gpu.conv_rowsum(x.mT.unsqueeze(-1), g.mT.unsqueeze(-1), 1)
    return relative_error(rows, expected)


def errors() -> dict[str, float]:
    """Return the relative error of each layer, and of each further input."""
    layers = cases()
    result = {
        name: relative_error(gpu.conv_rowsum(*case.arguments), reference(case))
        for name, case in layers.items()
    }
    depthwise = layers["depthwise"]
    direct = gpu.depthwise_rowsum(*depthwise.arguments[:-1])
    empty = make(Geometry.of(3, 1, 1, 1, 1), 0, 4, 4, (5, 5))
    return result | {
        "depthwise called directly": relative_error(direct, reference(depthwise)),
        "bfloat16": bfloat16_error(layers["3x3"]),
        "bfloat16 depthwise": bfloat16_error(depthwise),
        "linear": linear_error(),
        "empty batch": float(gpu.conv_rowsum(*empty.arguments).numel()),
    }


if __name__ == "__main__":
    print(json.dumps(errors()))
