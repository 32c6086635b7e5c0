"""Which formula computes which layer, and why."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import Geometry
from .kernels import convolution, cpu, gpu, pixelwise
from .kernels.finish import NOTHING, Finish, finish_
from .passes import fast_convolve, fast_input_gradient, onednn
from .products import (
    CACHE,
    correlation_rowsum,
    depthwise_rowsum,
    looped_rowsum,
    matmul_rowsum,
    outer_rowsum,
    patches_rowsum,
    pointwise_rowsum,
    taps_rowsum,
)
from .race import Path, Race

FEW_POSITIONS = 400
"""Up to this many positions, a product per tap costs less than a library call per sample."""
MANY_TAPS = 16
"""From this many taps on, a depthwise layer's positions make a kernel for oneDNN."""
WIDE_MAP = 64 * 64
NARROW_ROW = 16
"""Where I * kw is less and the map at least that wide, the kernel's tiles stay half empty: the
library's own weight gradient is faster, unless threads share it, as they share out the samples to
the kernel."""
GPU_SCRATCH = 1 << 25
"""Elements of patches or per-sample gradients held at a time on a GPU: 128 MiB in float32."""
EXACT, ROUNDED = 1e-4, 1e-2
"""How far formulas on a GPU may differ from each other: in float32, and with shorter operands."""


@dataclass(frozen=True)
class Dispatcher:
    """Chooses formulas by shape, device and type; on a GPU, by what is fastest there.

    Attributes:
        kernels: whether compiled kernels may be taken where they are available.
        passes: whether kernels also run forward passes and input gradients.
        gates: whether activations are computed with the layers around them (see `gates`).
        tf32: whether kernels on a GPU may multiply float32 operands on tensor cores.
        race: remembers what was fastest on a GPU.
    """

    kernels: bool = True
    passes: bool = True
    gates: bool = True
    tf32: bool = False
    race: Race = field(default_factory=Race, compare=False)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Geometry) -> Tensor:
        """Run a convolution: [B, O, OH, OW]."""
        if self._winograd(x, weight, conv):
            return convolution.convolve(x, weight, bias, conv.padding)
        if self._pixelwise(conv):
            met = conv.met(x)
            if pixelwise.takes(met, weight) and pixelwise.pays(met, weight):
                return pixelwise.multiply(met, weight.flatten(1), bias)
        return fast_convolve(x, weight, bias, conv)

    def input_gradient(
        self, x: Tensor, g: Tensor, weight: Tensor, conv: Geometry, finish: Finish = NOTHING
    ) -> Tensor:
        """Differentiate a convolution by its input, and finish that: [B, I, H, W]."""
        if max(conv.padding) <= 2 and self._winograd(g, weight, conv):
            return convolution.input_gradient(g, weight, conv.padding, finish)
        back = weight.transpose(0, 1)
        if self._pixelwise(conv) and pixelwise.takes(g, back):
            if conv.stride != (1, 1):
                gradient = torch.zeros_like(x, memory_format=torch.channels_last)
                pixelwise.multiply(g, back.flatten(1), out=conv.met(gradient))
                return finish_(gradient, finish)
            if finish is not NOTHING or pixelwise.pays(g, back):
                return pixelwise.multiply(g, back.flatten(1), None, finish)
        return finish_(fast_input_gradient(x, g, weight, conv), finish)

    @property
    def packs(self) -> bool:
        """Whether compiled kernels run passes on a CPU, for which they pack the weights."""
        return self.kernels and self.passes and cpu.available()

    @property
    def fuses(self) -> bool:
        """Whether activations are computed with the layers around them, on the CPU in float32."""
        return self.gates and self.packs

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run a linear layer: [..., O]."""
        if self.kernels and self.passes and pixelwise.takes_tokens(x, weight):
            return pixelwise.multiply_tokens(x, weight, bias)
        return F.linear(x, weight, bias)

    def token_gradient(self, g: Tensor, weight: Tensor, finish: Finish = NOTHING) -> Tensor:
        """Differentiate a linear layer by its input, and finish that: [..., I]."""
        if self.kernels and self.passes and pixelwise.takes_tokens(g, weight.t()):
            return pixelwise.multiply_tokens(g, weight.t(), None, finish)
        return finish_(g.matmul(weight), finish)

    def conv(self, x: Tensor, g: Tensor, weight: Tensor, conv: Geometry) -> Path:
        """Choose for a convolution with x [B, I, H, W], g [B, O, OH, OW]."""
        P = g.shape[2] * g.shape[3]
        if conv.pointwise and P == x.shape[2] * x.shape[3] == 1:
            return Path("outer", "a single position", partial(_flat_outer, groups=conv.groups))
        if gpu.on_gpu(x):
            return self._fastest(x, g, conv)
        looped = partial(looped_rowsum, weight=weight, conv=conv)
        narrow = conv.groups == 1 and x.shape[1] * conv.kernel[1] < NARROW_ROW
        kernel = self._kernel(x, g, conv)
        alone = torch.get_num_threads() == 1
        if narrow and P >= WIDE_MAP and (alone or kernel is None):
            return Path("loop", f"{x.shape[1]} channels at {P} positions", looped)
        if kernel is not None:
            return kernel
        if _depthwise(x, g, conv) and conv.taps >= MANY_TAPS and onednn(x):
            rowsum = partial(correlation_rowsum, conv=conv)
            return Path("correlation", f"{conv.taps} taps at {P} positions", rowsum)
        if P > FEW_POSITIONS and not conv.pointwise:
            return Path("loop", f"{P} positions", looped)
        return _by_library(x, g, conv, CACHE)

    def linear(self, x: Tensor, g: Tensor) -> Path:
        """Choose for a linear layer with x [B, P, I], g [B, P, O]."""
        P = x.shape[1]
        if P == 1:
            return Path("outer", "a single token", _flat_outer)
        if gpu.on_gpu(x):
            return _on_tokens(self._fastest(_as_maps(x), _as_maps(g), Geometry.of(1)))
        kernel = self._kernel(_as_maps(x), _as_maps(g), Geometry.of(1))
        if kernel is not None:
            return _on_tokens(kernel)
        return Path("matmul", f"{P} tokens", partial(matmul_rowsum, scratch=CACHE))

    def _pixelwise(self, conv: Geometry) -> bool:
        return self.kernels and self.passes and conv.pointwise and conv.groups == 1

    def _winograd(self, x: Tensor, weight: Tensor, conv: Geometry) -> bool:
        if not (self.kernels and self.passes):
            return False
        return convolution.why_not(x, weight, conv.stride, conv.dilation, conv.groups) is None

    def _kernel(self, x: Tensor, g: Tensor, conv: Geometry) -> Path | None:
        if self.kernels and cpu.supports(x, g):
            reason = f"compiled for {cpu.instruction_set()}"
            return Path("cpu kernel", reason, lambda x, g: cpu.conv_rowsum(x, g, *_arguments(conv)))
        return None

    def _fastest(self, x: Tensor, g: Tensor, conv: Geometry) -> Path:
        """Choose on a GPU, for maps."""

        def paths() -> list[Path]:
            found = self._gpu_kernels(x, g, conv)
            if conv.taps > 1 and conv.groups == 1:
                rowsum = partial(patches_rowsum, conv=conv, scratch=GPU_SCRATCH)
                found.append(Path("patches", f"{conv.taps} taps", rowsum))
            return [*found, _by_library(x, g, conv, GPU_SCRATCH)]

        key = (x.device, x.dtype, x.shape[1:], g.shape[1:], conv)
        exact = x.dtype in (torch.float32, torch.float64) and not self.tf32
        return self.race.winner(key, paths, x, g, EXACT if exact else ROUNDED)

    def _gpu_kernels(self, x: Tensor, g: Tensor, conv: Geometry) -> list[Path]:
        if not self.kernels or not gpu.supports(x, g):
            return []
        precision = "tf32" if self.tf32 else "ieee"
        rowsum = partial(gpu.conv_rowsum, precision=precision)
        return [
            Path(
                "gpu kernel",
                f"Triton, {precision}" if blocks is None else f"Triton, {precision}, {blocks}",
                lambda x, g, b=blocks: rowsum(x, g, *_arguments(conv), blocks=b),
            )
            for blocks in gpu.block_choices(x, g, conv, precision)
        ]


def _by_library(x: Tensor, g: Tensor, conv: Geometry, scratch: int) -> Path:
    """Choose among the formulas that PyTorch's products make up."""
    P = g.shape[2] * g.shape[3]
    if conv.pointwise:
        rowsum = partial(pointwise_rowsum, conv=conv, scratch=scratch)
        return Path("matmul", f"1x1 at {P} positions", rowsum)
    if _depthwise(x, g, conv):
        rowsum = partial(depthwise_rowsum, conv=conv)
        return Path("depthwise", f"{conv.taps} taps at {P} positions", rowsum)
    rowsum = partial(taps_rowsum, conv=conv, scratch=scratch)
    return Path("taps", f"{conv.taps} taps at {P} positions", rowsum)


def _depthwise(x: Tensor, g: Tensor, conv: Geometry) -> bool:
    return conv.groups == x.shape[1] == g.shape[1]


def _arguments(conv: Geometry) -> tuple:
    return (conv.kernel, conv.stride, conv.padding, conv.dilation, conv.groups)


def _flat_outer(x: Tensor, g: Tensor, groups: int = 1) -> Tensor:
    return outer_rowsum(x.flatten(1), g.flatten(1), groups)


def _as_maps(tokens: Tensor) -> Tensor:
    """View [B, P, C] as channels_last maps [B, C, P, 1]."""
    return tokens.mT.unsqueeze(3)


def _on_tokens(path: Path) -> Path:
    """Let a formula for maps take tokens."""
    return replace(path, rowsum=lambda x, g: path.rowsum(_as_maps(x), _as_maps(g)))
