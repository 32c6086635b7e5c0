"""Errors of the Triton kernels under Triton's interpreter, as JSON on stdout.

The interpreter must be chosen before Triton is imported, so this runs as a process of its own:
`TRITON_INTERPRET=1 python -m tests.indexer.saliency.kernels.interpreted`.
"""

import json

import torch
from torch import nn

from indexer.saliency.dispatch import Dispatcher
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.geometry import Geometry
from indexer.saliency.kernels import gpu
from indexer.saliency.layout import profile_layout
from indexer.saliency.race import Race
from indexer.saliency.reference import reference_profiles

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
    "3x3 wider than the map": ((3, 1, 3, 3, 1), 16, 16, (3, 2)),
    "1x1 padded": ((1, 1, 1, 1, 1), 16, 16, (4, 5)),
    "channels in fours": ((3, 2, 1, 1, 1), 20, 36, (8, 8)),
    "several blocks": ((3, 1, 1, 1, 1), 72, 136, (5, 4)),
    "depthwise across the edge": ((5, 1, 8, 4, 8), 8, 8, (4, 5)),
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


def block_errors(case: Case) -> list[float]:
    """Errors of each choice of blocks, of all precisions."""
    x, g = case.x, case.g
    chosen = {b: p for p in gpu.PRECISIONS for b in gpu.block_choices(x, g, case.convolution, p)}
    rows = (gpu.conv_rowsum(*case.arguments, precision=p, blocks=b) for b, p in chosen.items())
    return [relative_error(row, reference(case)) for row in rows]


class Net(nn.Module):
    """A layer of each kind: stem, 3x3, depthwise, 1x1, linear over tokens and over a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU(),
            nn.Conv2d(16, 20, 1), nn.ReLU(),
        )  # fmt: skip
        self.tokens = nn.Linear(20, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 5]."""
        return self.head(self.tokens(self.maps(x).flatten(2).mT).relu().mean(1))


def engine_error() -> float:
    """Error of an engine whose races the Triton kernels always win."""
    torch.manual_seed(0)
    model, images, labels = Net().eval(), torch.randn(3, 3, 12, 10), torch.tensor([0, 4, 2])
    layout = profile_layout(model, "all")
    race = Race(clock=lambda path, x, g: float(path.name != "gpu kernel"))
    engine = SaliencyEngine(model, layout, dispatcher=Dispatcher(race=race))
    profiles = engine(images, labels).profiles
    taken = {layer: path for layer, path, _ in engine.describe()}
    assert taken.pop("head") == "outer"
    assert set(taken.values()) == {"gpu kernel"}, taken
    return relative_error(profiles, reference_profiles(model, images, labels, layout))


def errors() -> dict[str, float]:
    """Return the relative error of each layer, and of each further input."""
    layers = cases()
    result = {
        name: relative_error(gpu.conv_rowsum(*case.arguments), reference(case))
        for name, case in layers.items()
    }
    depthwise = layers["depthwise"]
    empty = make(Geometry.of(3, 1, 1, 1, 1), 0, 4, 4, (5, 5))
    return result | {
        "every choice of blocks": max(block_errors(layers["several blocks"])),
        "bfloat16": bfloat16_error(layers["3x3"]),
        "bfloat16 depthwise": bfloat16_error(depthwise),
        "linear": linear_error(),
        "engine": engine_error(),
        "empty batch": float(gpu.conv_rowsum(*empty.arguments).numel()),
    }


if __name__ == "__main__":
    print(json.dumps(errors()))
