"""The model's part of a run: which engine, how many images at a time, and what if memory ends."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .errors import ModelError, UnsupportedLayerError
from .filters import FilterLayout
from .manifest import Manifest
from .saliency.engine import SaliencyEngine
from .saliency.output import EngineOutput
from .saliency.reference import ReferenceEngine, self_check

FAST, REFERENCE = "fast", "reference"
"""Names of the engines, as they are recorded."""

Engine = SaliencyEngine | ReferenceEngine

LARGEST_BATCH = {"cpu": 32, "cuda": 256}
"""Beyond these the throughput no longer grows, but the memory does."""

COMMON_PIXELS, MOST_SMALL = 224 * 224, 8
"""A GPU takes more images where they are smaller than that: up to eight times as many."""

MEMORY_SHARE = 0.5
"""Share of the free memory that a batch may take."""

COPIES = 2
"""An activation is kept once for the backward pass; gradients and scratch space take as much."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """What the model says about n images, as numpy arrays.

    Attributes:
        raw: float32 [n, F], mean absolute loss gradient per unit.
        logits: float32 [n, C].
        embeddings: float32 [n, E], or None.
    """

    raw: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray | None

    @property
    def usable(self) -> np.ndarray:
        """Whether profile, logits and embedding are finite, bool [n]."""
        parts = [self.raw, self.logits]
        if self.embeddings is not None:
            parts.append(self.embeddings)
        return np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in parts])

    def keep(self, mask: np.ndarray) -> "Profiles":
        """Return the rows where the mask is set; without a copy where it is set everywhere."""
        if mask.all():
            return self
        embeddings = None if self.embeddings is None else self.embeddings[mask]
        return Profiles(self.raw[mask], self.logits[mask], embeddings)


class Profiler:
    """An engine and the batch size that fits the memory.

    Attributes:
        batch_size: most images at a time; halves when memory runs out.
    """

    def __init__(self, engine: Engine, batch_size: int) -> None:
        self._engine = engine
        self.batch_size = batch_size

    @property
    def name(self) -> str:
        """Name of the engine, as it is recorded."""
        return engine_name(self._engine)

    def __call__(self, images: Tensor, labels: Tensor) -> list[EngineOutput]:
        """Profile a batch; in parts, in order, where it does not fit the memory.

        Args:
            images: float32 [n, I, H, W], on the CPU.
            labels: int64 [n].

        Raises:
            ModelError: not even one image fits.
        """
        try:
            return [self._engine(_ready(images, self._engine), labels)]
        except UnsupportedLayerError:
            if self.name == REFERENCE:
                raise
            engine = self._engine  # only some inputs bring out such a use of a weight
            self._engine = ReferenceEngine(engine.model, engine.layout, precision=engine.precision)
            return self(images, labels)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise ModelError(
                    "memory does not suffice for a single image: free some, or index with a "
                    "smaller --input-size"
                ) from error
        half = len(images) // 2
        self.batch_size = max(1, min(self.batch_size, half))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self(images[:half], labels[:half]) + self(images[half:], labels[half:])


def collect(outputs: list[EngineOutput]) -> Profiles:
    """Fetch the outputs of one batch from the device; waits for the device."""

    def fetch(tensors: list[Tensor]) -> np.ndarray:
        parts = [tensor.to("cpu", torch.float32).numpy() for tensor in tensors]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    embeddings = [output.embeddings for output in outputs]
    return Profiles(
        fetch([output.profiles for output in outputs]),
        fetch([output.logits for output in outputs]),
        None if embeddings[0] is None else fetch([e for e in embeddings if e is not None]),
    )


def choose_engine(
    model: nn.Module, layout: FilterLayout, precision: str, images: Tensor, labels: Tensor
) -> tuple[Engine, str]:
    """Return the fast engine if it agrees with the reference on a few images, else the reference.

    Returns:
        The engine and the verdict of the comparison, one line.
    """
    engine = SaliencyEngine(model, layout, precision=precision)
    verdict = self_check(engine, images, labels)
    if verdict.ok:
        return engine, verdict.message
    reference = ReferenceEngine(model, layout, precision=precision)
    return reference, f"{verdict.message}: going on one image at a time, which is slower"


def engine_of(manifest: Manifest, model: nn.Module) -> Engine:
    """Return the engine that an index was made with, for its model."""
    kind = SaliencyEngine if manifest.engine == FAST else ReferenceEngine
    return kind(model, manifest.layout, precision=manifest.precision)


def engine_name(engine: Engine) -> str:
    """Return the name of an engine."""
    return FAST if isinstance(engine, SaliencyEngine) else REFERENCE


def automatic_batch_size(model: nn.Module, image: Tensor) -> int:
    """Return a power of two that fits the free memory.

    Args:
        model: in eval mode.
        image: one transformed image, [I, H, W].
    """
    device = next(model.parameters()).device
    values = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal values
        if isinstance(output, Tensor):
            values += output.numel()

    leaves = [module for module in model.modules() if not any(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.inference_mode():
            model(image[None].to(device, next(model.parameters()).dtype))
    finally:
        for handle in handles:
            handle.remove()
    fitting = int(MEMORY_SHARE * _free_memory(device) / (COPIES * 4 * max(values, 1)))
    largest = largest_batch(device.type, image[0].numel())
    return max(1, min(largest, 1 << max(fitting, 1).bit_length() - 1))


def largest_batch(kind: str, pixels: int) -> int:
    """Return the batch size beyond which memory is all that grows, a power of two.

    Args:
        kind: of device, "cpu" or "cuda".
        pixels: of an image.
    """
    largest = LARGEST_BATCH.get(kind, 32)
    if kind != "cuda" or pixels >= COMMON_PIXELS:
        return largest
    # Between small images a GPU waits for its next order.
    return largest * min(MOST_SMALL, 1 << (COMMON_PIXELS // pixels).bit_length() - 1)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return int(kilobytes) * 1024
    except (OSError, ValueError):
        return 4 * 2**30  # a modest machine, where the system does not tell


def _ready(images: Tensor, engine: Engine) -> Tensor:
    on_gpu = next(engine.model.parameters()).device.type == "cuda"
    return images.pin_memory() if on_gpu else images


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory")
    )
