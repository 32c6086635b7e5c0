"""What an indexing run costs beside its engine: time, memory, syncing.

    python -m benchmarks.pipeline DATA --model MODEL --images 1000 --rounds 3

Three ways over the same images, interleaved, medians over rounds: the whole run (reading, decoding,
profiling, spooling, standardizing, storing, syncing), the engine alone on tensors that are in
memory already, and a plain training step's forward and backward pass on them; all three keep the
memory that a batch frees for the next. A tenth of the images goes before, to warm up. Peak memory
comes from processes of their own, for a quarter of the images and for all of them.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import memory
from indexer.allocation import kept_memory
from indexer.datasets import ImageDataset, open_dataset
from indexer.job import Job
from indexer.models import LoadedModel, load_model
from indexer.pipeline import IndexReport, IndexSettings, index_dataset
from indexer.profiling import automatic_batch_size
from indexer.progress import silent
from indexer.reading import ImageReader, ReadImage
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout


def take_images(data: Path, count: int, target: Path) -> ImageDataset:
    """Write the first `count` rows of a parquet file to another one, and open it."""
    batches = pq.ParquetFile(data).iter_batches(batch_size=256)
    head, left = [], count
    for batch in batches:
        head.append(batch.slice(0, left))
        left -= len(head[-1])
        if not left:
            break
    with pq.ParquetWriter(target, head[0].schema) as writer:
        for batch in head:
            writer.write_batch(batch)
    return open_dataset(target)


def decoded(dataset: ImageDataset, loaded: LoadedModel) -> list[tuple[Tensor, Tensor]]:
    """Return all images in memory, in batches of the size that a run would choose."""
    classes = Job.plan(dataset, loaded, IndexSettings()).classes
    reader = ImageReader(dataset, classes, loaded.transform)
    rows = reader.stream(0, workers=2, ahead=64)
    known = [row for row in rows if isinstance(row, ReadImage)]
    size = automatic_batch_size(loaded.model, reader.inputs(known[:1])[0])
    images, batches = iter(known), []
    while batch := list(islice(images, size)):
        labels = torch.tensor([image.target for image in batch])
        batches.append((reader.inputs(batch), labels))
    return batches


def timed(action: Callable[[], Any]) -> float:
    """Return the wall time of a call in seconds, with the memory setting of a run."""
    with kept_memory():
        started = time.perf_counter()
        action()
        return time.perf_counter() - started


def plain_steps(loaded: LoadedModel, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Run forward and backward passes with the gradients of all weights, as training does."""
    for images, labels in batches:
        loaded.model.zero_grad()
        F.cross_entropy(loaded.model(images), labels).backward()


def measure(data: Path, model: str, images: int, rounds: int) -> dict[str, Any]:
    """Return medians of the three ways, and their ratios."""
    loaded = load_model(model)
    engine = SaliencyEngine(loaded.model, profile_layout(loaded.model))
    seconds: dict[str, list[float]] = {"run": [], "engine": [], "plain": [], "sync": []}
    with tempfile.TemporaryDirectory() as folder:
        few = take_images(data, max(1, images // 10), Path(folder) / "few.parquet")
        batches = decoded(few, loaded)
        _round(few, loaded, engine, batches, Path(folder) / "warm.lancedb")
        dataset = take_images(data, images, Path(folder) / "images.parquet")
        batches = decoded(dataset, loaded)
        for number in range(rounds):
            spent = _round(dataset, loaded, engine, batches, Path(folder) / f"{number}.lancedb")
            for name, value in spent.items():
                seconds[name].append(value)
            print(json.dumps({"round": number, **spent}), file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "images": images,
        "batch_size": len(batches[0][0]),
        "seconds": seconds,
        "images_per_second": images / medians["run"],
        "run_over_engine": medians["run"] / medians["engine"],
        "plain_over_run": medians["plain"] / medians["run"],
        "plain_over_engine": medians["plain"] / medians["engine"],
        "sync_share": medians["sync"] / medians["run"],
    }


def _round(
    dataset: ImageDataset,
    loaded: LoadedModel,
    engine: SaliencyEngine,
    batches: list[tuple[Tensor, Tensor]],
    db: Path,
) -> dict[str, float]:
    """Return the seconds of each of the three ways, and those of the run that went into syncing.

    The engine's are half before the run and half after it: a machine that becomes faster or slower
    meanwhile favors neither.
    """
    half = len(batches) // 2
    alone = timed(lambda: _engine_alone(engine, batches[:half]))
    report = _run(dataset, loaded, db)
    alone += timed(lambda: _engine_alone(engine, batches[half:]))
    return {
        "run": report.seconds,
        "sync": report.sync_seconds,
        "engine": alone,
        "plain": timed(lambda: plain_steps(loaded, batches)),
    }


def _engine_alone(engine: SaliencyEngine, batches: list[tuple[Tensor, Tensor]]) -> None:
    for batch in batches:
        engine(*batch)


def peak_memory(data: Path, model: str, images: int) -> int:
    """Return the largest resident size, in bytes, of a process that indexes so many images."""
    command = [sys.executable, "-m", "benchmarks.pipeline", str(data), "--model", model]
    command += ["--images", str(images), "--only-memory"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["peak_memory"]


def _measure_memory(data: Path, model: str, images: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        dataset = take_images(data, images, Path(folder) / "images.parquet")
        memory.start_peak()
        _run(dataset, load_model(model), Path(folder) / "index.lancedb")
        return {"peak_memory": memory.peak()}


def _run(dataset: ImageDataset, loaded: LoadedModel, db: Path) -> IndexReport:
    return index_dataset(dataset, loaded, db, IndexSettings(), progress=silent)


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a parquet file with embedded images")
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="also measure the peak memory")
    parser.add_argument("--only-memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pipeline.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_memory:
        print(json.dumps(_measure_memory(options.data, options.model, options.images)))
        return
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    result |= {"threads": options.threads, "model": Path(options.model).name}
    result |= measure(options.data, options.model, options.images, options.rounds)
    if options.memory:
        counts = (options.images // 4, options.images)
        peaks = {n: peak_memory(options.data, options.model, n) for n in counts}
        result["peak_memory"] = {str(n): peak for n, peak in peaks.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _print(result)


def _print(result: dict[str, Any]) -> None:
    threads, size = result["threads"], result["batch_size"]
    print(f"{result['images']} images, batches of {size}, {threads} threads")
    print(f"  run                {result['images_per_second']:8.1f} images/s")
    print(f"  run / engine       {result['run_over_engine']:8.3f}   goal 1.15 or less")
    print(f"  plain step / run   {result['plain_over_run']:8.3f}   goal 0.65 or more")
    print(f"  syncing / run      {result['sync_share']:8.4f}   goal 0.03 or less")
    for count, peak in result.get("peak_memory", {}).items():
        print(f"  peak memory, {count:>6} images {peak / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
