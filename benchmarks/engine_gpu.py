"""Throughput of the engine on a GPU, against a plain training step of the same precision.

For every model and precision: a plain step (eval mode, forward and backward with batch-summed
weight gradients), the engine with Triton kernels and the engine without, interleaved round by
round; medians, peak memory and the error against float64 on the CPU. Without a CUDA device the
benchmark says so and measures nothing.

    python -m benchmarks.engine_gpu --out benchmarks/results/engine_gpu.json
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from indexer.saliency.engine import SaliencyEngine, summed_loss
from indexer.saliency.layout import profile_layout
from indexer.saliency.precision import autocast, pinned
from indexer.saliency.reference import reference_profiles

from .engine_ways import Subject

PRECISIONS = ("fp32", "tf32", "amp")
CHECKED = 4
"""Images whose profiles are compared with the float64 reference."""


SUBJECTS = (
    Subject("resnet50", 224, 64),
    Subject("resnet18", 224, 64),
    Subject("resnet18", 64, 256),
    Subject("mobilenetv3_small_100", 224, 128),
    Subject("convnext_atto", 224, 128),
    Subject("vit_tiny_patch16_224", 224, 128, "linear"),
)


@dataclass(frozen=True)
class Timing:
    """Median seconds per batch and peak bytes allocated."""

    seconds: float
    peak: int


@dataclass(frozen=True)
class Record:
    """What was measured for one subject at one precision."""

    subject: Subject
    precision: str
    plain: Timing
    kernels: Timing
    torch_only: Timing
    error: float
    paths: dict[str, int]

    @property
    def ratio(self) -> float:
        """Throughput of the engine over that of the plain step."""
        return self.plain.seconds / self.kernels.seconds


def plain_step(
    model: nn.Module, images: Tensor, labels: Tensor, precision: str
) -> Callable[[], object]:
    """Return a training step without the optimizer, in the engine's arithmetic."""
    weights = list(model.parameters())

    def step() -> object:
        with pinned(precision):
            with autocast(precision, images.device):
                logits = model(images)
            return torch.autograd.grad(summed_loss(logits, labels), weights, allow_unused=True)

    return step


def time_interleaved(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run all steps in turn, `rounds` times after three for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[str, int] = {}
    for turn in range(-3, rounds):
        for name, step in steps.items():
            torch.cuda.reset_peak_memory_stats()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            end.synchronize()
            peaks[name] = torch.cuda.max_memory_allocated()
            if turn >= 0:
                seconds[name].append(start.elapsed_time(end) / 1000)
    return {name: Timing(statistics.median(seconds[name]), peaks[name]) for name in steps}


def relative_error(subject: Subject, engine: SaliencyEngine, images: Tensor, labels: Tensor):
    """Frobenius error of a few profiles against float64 on the CPU."""
    model = timm.create_model(subject.model).eval()
    model.load_state_dict(engine.model.state_dict())
    few, their_labels = images[:CHECKED], labels[:CHECKED]
    expected = reference_profiles(
        model.double(), few.cpu().double(), their_labels.cpu(), engine.layout
    )
    difference = engine(few, their_labels).profiles.cpu().double() - expected
    return float(difference.norm() / expected.norm())


def measure(subject: Subject, precision: str, rounds: int) -> Record:
    """Measure one model, in channels_last, at one precision."""
    torch.manual_seed(0)
    model = timm.create_model(subject.model).eval().cuda().to(memory_format=torch.channels_last)
    images = torch.randn(subject.batch, 3, subject.size, subject.size, device="cuda")
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (subject.batch,), device="cuda")
    layout = profile_layout(model, subject.units)
    engines = {
        name: SaliencyEngine(model, layout, precision=precision, kernels=name == "kernels")
        for name in ("kernels", "torch_only")
    }
    steps: dict[str, Callable[[], object]] = {
        name: lambda engine=engine: engine(images, labels) for name, engine in engines.items()
    }
    timings = time_interleaved(
        {"plain": plain_step(model, images, labels, precision)} | steps, rounds
    )
    # Behind a semicolon the engine says by how much a formula won.
    taken = [f"{path}: {why.split(';')[0]}" for _, path, why in engines["kernels"].describe()]
    return Record(
        subject,
        precision,
        **timings,
        error=relative_error(subject, engines["kernels"], images, labels),
        paths={path: taken.count(path) for path in sorted(set(taken))},
    )


def to_markdown(records: Sequence[Record]) -> str:
    """Return the table for the README of the benchmarks."""
    lines = [
        "| model | precision | images/s | ÷ plain | without kernels | memory ÷ plain | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        subject, plain = record.subject, record.plain
        lines.append(
            f"| {subject.model} at {subject.size}, B{subject.batch} | {record.precision} "
            f"| {subject.batch / record.kernels.seconds:.0f} | {record.ratio:.2f} "
            f"| {plain.seconds / record.torch_only.seconds:.2f} "
            f"| {record.kernels.peak / plain.peak:.2f} | {record.error:.1e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and write JSON; print the table."""
    parser = argparse.ArgumentParser(description="The engine against a plain step on a GPU.")
    parser.add_argument("--models", nargs="*", help="names of models; all by default")
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine_gpu.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing measured")
        return
    subjects = [s for s in SUBJECTS if not options.models or s.model in options.models]
    records = [measure(s, p, options.rounds) for s in subjects for p in options.precisions]
    document = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "records": [asdict(record) | {"ratio": record.ratio} for record in records],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(to_markdown(records))


if __name__ == "__main__":
    main()
