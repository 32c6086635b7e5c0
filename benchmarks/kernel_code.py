"""What the Triton kernels are compiled to, layer by layer, without a GPU.

Machine code tells what limits a kernel before it has run: registers that spill, loads of single
numbers, a loop that computes addresses instead of products. Speed itself it cannot tell.
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from indexer.saliency.geometry import Geometry
from indexer.saliency.kernels import gpu
from indexer.saliency.kernels.blocks import Blocks

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
CAPABILITIES = (80, 90)
PRECISIONS = {
    "fp32": (torch.float32, "ieee"),
    "tf32": (torch.float32, "tf32"),
    "bf16": (torch.bfloat16, "ieee"),
}
PRODUCTS = ("FFMA", "HMMA", "HGMMA")
BATCH = 64


@dataclass(frozen=True)
class Layer:
    """A layer of a known model: geometry, channels, filters, side of the input map."""

    name: str
    convolution: Geometry
    inputs: int
    filters: int
    side: int

    def maps(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x and g of a batch, without memory."""
        sides = self.convolution.output_size(self.side, self.side)
        shapes = (BATCH, self.inputs, self.side, self.side), (BATCH, self.filters, *sides)
        x, g = (torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)
        return (
            x.to(memory_format=torch.channels_last),
            g.to(memory_format=torch.channels_last),
        )


LAYERS = (
    Layer("stem of ResNet-50", Geometry.of(7, 2, 3), 3, 64, 224),
    Layer("3x3 of ResNet-50", Geometry.of(3, 1, 1), 256, 256, 14),
    Layer("1x1 of ResNet-50", Geometry.of(1), 256, 1024, 14),
    Layer("strided 1x1 of ResNet-50", Geometry.of(1, 2), 512, 1024, 28),
    Layer("1x1 of MobileNetV3", Geometry.of(1), 88, 24, 28),
    Layer("depthwise 5x5 of MobileNetV3", Geometry.of(5, 1, 2, 1, 88), 88, 88, 28),
    Layer("depthwise 7x7 of ConvNeXt", Geometry.of(7, 1, 3, 1, 80), 80, 80, 28),
    Layer("grouped 3x3 of RegNet", Geometry.of(3, 1, 1, 1, 8), 192, 192, 28),
    Layer("linear of ViT", Geometry.of(1), 192, 768, 14),
)


@dataclass(frozen=True)
class Code:
    """A compiled kernel.

    Attributes:
        registers: of a thread.
        spilled: instructions that move registers to memory and back.
        shared: bytes of shared memory of a program.
        loads: instructions that load from global memory, by bytes that a thread gets.
        products: share of multiply-adds among the instructions of the innermost loop. A tensor
            core's instruction does the work of hundreds: there a small share is no loss.
        instruction: the one that multiplies.
    """

    registers: int
    spilled: int
    shared: int
    loads: dict[int, int]
    products: float
    instruction: str


class _Offline:
    """Stands for a GPU where Triton asks for what it should compile."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return self._target.arch

    def get_current_stream(self, device: int) -> int:
        return device


def compiled(launch: gpu.Launch, capability: int) -> Code:
    """Compile a kernel as if it was launched on a GPU of a compute capability (90 is 9.0).

    From then on, Triton takes that for the GPU of this process.
    """
    driver.set_active(_Offline(capability))
    kernel = launch.function.warmup(*launch.arguments, grid=launch.grid, **launch.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        lines = _tool("nvdisasm", "-c", file.name).splitlines()
    opcodes = [code for line in lines if (code := _opcode(line))]
    multiplier = next((p for p in reversed(PRODUCTS) if _count(opcodes, p)), "none")
    loop = [code for line in _innermost(lines, multiplier) if (code := _opcode(line))]
    return Code(
        registers=int(re.findall(r"REG:(\d+)", usage)[0]),
        spilled=_count(opcodes, "STL", "LDL"),
        shared=kernel.metadata.shared,
        loads=dict(sorted(Counter(_bytes(c) for c in opcodes if _is(c, "LDG", "LDGSTS")).items())),
        products=_count(loop, multiplier) / max(1, len(loop)),
        instruction=multiplier,
    )


def _tool(name: str, *arguments: str) -> str:
    run = subprocess.run(
        [str(TOOLS / name), *arguments], capture_output=True, text=True, check=True
    )
    return run.stdout


def _opcode(line: str) -> str | None:
    """Read the operation from a line of `nvdisasm`, with its modifiers."""
    found = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", line)
    return found and found[1]


def _is(opcode: str, *operations: str) -> bool:
    return opcode.split(".")[0] in operations


def _count(opcodes: Sequence[str], *operations: str) -> int:
    return sum(_is(opcode, *operations) for opcode in opcodes)


def _bytes(opcode: str) -> int:
    """Bytes that a thread gets from one load: 4 unless the operation says otherwise."""
    widths = {"64": 8, "128": 16, "U16": 2, "S16": 2, "U8": 1}
    return next((widths[m] for m in opcode.split(".")[1:] if m in widths), 4)


def _innermost(lines: Sequence[str], multiplier: str) -> list[str]:
    """Return the shortest run of lines that a jump back repeats and that multiplies."""
    labels = {line.split(":")[0].strip(): n for n, line in enumerate(lines) if line[:3] == ".L_"}
    loops = []
    for end, line in enumerate(lines):
        target = re.search(r"BRA[^`]*`\((\.L_\w+)\)", line)
        if target and labels.get(target[1], end) < end:
            body = list(lines[labels[target[1]] : end + 1])
            if any(_is(_opcode(inner) or "", multiplier) for inner in body):
                loops.append(body)
    return min(loops, key=len, default=[])


def launches(
    layers: Sequence[Layer] = LAYERS, precisions: Sequence[str] = tuple(PRECISIONS)
) -> Iterator[tuple[Layer, str, Blocks | None, gpu.Launch]]:
    """Prepare every layer at every precision, with each choice of blocks."""
    for layer in layers:
        for name in precisions:
            dtype, precision = PRECISIONS[name]
            x, g = layer.maps(dtype)
            for blocks in gpu.block_choices(x, g, layer.convolution, precision):
                yield layer, name, blocks, gpu.launch(x, g, layer.convolution, precision, blocks)


def main() -> None:
    """Compile everything and write JSON; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--capabilities", type=int, nargs="*", default=CAPABILITIES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kernel_code.json"))
    options = parser.parse_args()
    records = []
    print("| layer | GPU | precision | blocks | registers | spilled | loads, bytes | in the loop |")
    print("|---|---|---|---|---|---|---|---|")
    for layer, precision, blocks, launch in launches():
        for capability in options.capabilities:
            code = compiled(launch, capability)
            record = {
                "layer": layer.name,
                "capability": capability,
                "precision": precision,
                "kernel": launch.kernel,
                "blocks": blocks and asdict(blocks),
            }
            records.append(record | asdict(code))
            loads = ", ".join(f"{count} of {size}" for size, count in code.loads.items())
            print(
                f"| {layer.name} | sm_{capability} | {precision} | {blocks or '-'} "
                f"| {code.registers} | {code.spilled} | {loads} "
                f"| {code.products:.0%} {code.instruction} |",
                flush=True,
            )
    options.out.write_text(
        json.dumps({"triton": triton.__version__, "kernels": records}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
