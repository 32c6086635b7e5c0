"""Throughput, memory and error of the engine on a CPU, beside a plain step and other libraries.

    python -m benchmarks.engine --rounds 9
    python -m benchmarks.engine --models resnet18@64 --threads 2 --rounds 15 --peers loop,vmap
    python -m benchmarks.engine --table

Within each round every way runs once: a plain training step without its optimizer (eval mode,
NCHW and channels_last), our engine after each step of its way, and in the first rounds the ways of
others on as many images as they take gracefully. Ratios are of medians over rounds, images per
second against the faster plain step; they want a machine that does nothing else. Peak memory comes
from a process per step: the largest resident size in the step beyond that before it. Errors are
relative Frobenius distances from the float64 reference. A run replaces what the results hold of its
models at its number of threads and manner of freeing memory, but for the ways of others that it
leaves out: those keep what they had, relative to the plain step beside them. Every model has a
process of its own: memory that one model leaves behind spares the next one's steps page faults, and
plain steps have more of them. With `--keep-memory` no step has any, as in `failsearch index`.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import memory
from benchmarks.engine_table import FINALS, table
from benchmarks.engine_ways import (
    FEW_IMAGES,
    PEER_IMAGES,
    PEERS,
    PLAIN,
    SUBJECTS,
    Subject,
    Way,
    own_ways,
    peer_way,
)
from indexer.allocation import kept_memory
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.kernels import cpu
from indexer.saliency.layout import profile_layout
from indexer.saliency.reference import reference_profiles

LIBRARIES = {
    "torch": "torch",
    "timm": "timm",
    "numpy": "numpy",
    "opacus": "opacus",
    "backpack-for-pytorch": "backpack",
}
"""Distributions whose versions are recorded, and the packages in them."""
CHECKED = 2
"""Images whose profiles are compared with the float64 reference."""


Figures = dict[str, Any]


def machine() -> Figures:
    """Return what the figures depend on beside the code."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "kernels": cpu.instruction_set(),
        "matmul_gflops": matmul_rate(),
        "versions": {
            name: version(name) for name, package in LIBRARIES.items() if find_spec(package)
        },
    }


def matmul_rate() -> float:
    """Return GFLOP/s of torch's float32 matrix product on one thread."""
    threads, size = torch.get_num_threads(), 1024
    torch.set_num_threads(1)
    factor = torch.randn(size, size)
    spent = []
    for _ in range(9):
        started = time.perf_counter()
        torch.mm(factor, factor)
        spent.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return 2e-9 * size**3 / statistics.median(spent)


def peer_ways(subject: Subject, names: list[str]) -> tuple[dict[str, Way], dict[str, str]]:
    """Return the ways of others that run on this model, and why the rest do not."""
    model = subject.build()
    images, labels = (part[:CHECKED] for part in subject.data())
    ways, failures = {}, {}
    for name in names:
        # Each library refuses a model in its own manner; the reason is the finding.
        try:
            way = peer_way(name, model, subject.units)
            way(images, labels)
        except Exception as error:
            failures[name] = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        else:
            ways[name] = way
    return ways, failures


def time_interleaved(
    calls: dict[str, Callable[[], object]], rounds: dict[str, int]
) -> dict[str, list[float]]:
    """Return seconds by call and round, each call having warmed up once.

    Args:
        calls: by name, run in this order within a round.
        rounds: by name, in how many of the first rounds it takes part.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for turn in range(max(rounds.values())):
        for name, call in calls.items():
            if turn < rounds[name]:
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
    return seconds


def errors(subject: Subject, ways: dict[str, Way]) -> dict[str, float]:
    """Return the error of every way on a few images, and of the engine in float64."""
    model = subject.build()
    layout = profile_layout(model, subject.units)
    images, labels = (part[:CHECKED] for part in subject.data())
    double = copy.deepcopy(model).double()
    expected = reference_profiles(double, images.double(), labels, layout)
    found: dict[str, Any] = {name: way(images, labels) for name, way in ways.items()}
    exact = SaliencyEngine(double, layout, precision="fp64")
    found["float64"] = exact(images.double(), labels).profiles
    return {
        name: float((profiles.double() - expected).norm() / expected.norm())
        for name, profiles in found.items()
    }


def _allocation(keep: bool) -> AbstractContextManager[None]:
    """Return the manner of freeing memory: of the C library, or of `failsearch index`."""
    return kept_memory() if keep else nullcontext()


def measure(
    subject: Subject,
    threads: int,
    rounds: int,
    peers: list[str],
    few: int,
    keep: bool,
    last_only: bool,
) -> Figures:
    """Measure everything about one model."""
    model = subject.build()
    images, labels = subject.data()
    own = own_ways(model, subject.units)
    if last_only:
        own = {name: own[name] for name in (*PLAIN, *FINALS)}
    others, failures = peer_ways(subject, peers)
    count = dict.fromkeys(own, subject.batch) | {
        name: FEW_IMAGES.get((subject.model, name), PEER_IMAGES[name]) for name in others
    }
    calls = {
        name: lambda way=way, n=count[name]: way(images[:n], labels[:n])
        for name, way in (own | others).items()
    }
    load = os.getloadavg()[0]
    turns = dict.fromkeys(own, rounds) | {name: min(few, rounds) for name in others}
    with _allocation(keep):
        seconds = time_interleaved(calls, turns)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min(PLAIN, key=medians.__getitem__)
    judged = {name: way for name, way in (own | others).items() if name not in PLAIN}
    return {
        "model": subject.name,
        "units": subject.units,
        "batch": subject.batch,
        "threads": threads,
        "memory_kept": keep,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_at_start": load,
        "images": count,
        "seconds": seconds,
        "medians": medians,
        "fastest_plain": fastest,
        "ratios": _ratios(count, medians),
        "failures": failures,
        "errors": errors(subject, judged),
        "peak_bytes": {
            name: peak_memory(subject, name, threads, keep) for name in (fastest, *FINALS)
        },
    }


def _ratios(count: dict[str, int], medians: dict[str, float]) -> dict[str, float]:
    """Return images per second over those of the faster plain step."""
    rates = {name: count[name] / median for name, median in medians.items()}
    plain = max(rates[name] for name in PLAIN)
    return {name: rate / plain for name, rate in rates.items()}


def peak_memory(subject: Subject, way: str, threads: int, keep: bool) -> int:
    """Return the bytes that the first step of a process takes beyond what was resident."""
    command = [sys.executable, "-m", "benchmarks.engine", "--models", subject.name]
    command += ["--threads", str(threads), "--only-memory", way, *["--keep-memory"] * keep]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["peak_bytes"]


def _measure_memory(subject: Subject, name: str, threads: int, keep: bool) -> int:
    model = subject.build()
    way = own_ways(model, subject.units)[name]
    images, labels = subject.data()
    # The libraries set themselves up on a convolution that is too small to count.
    small = torch.nn.Conv2d(3, 8, 3)
    small(images[:1, :, :16, :16]).sum().backward()
    memory.start_peak()
    before = memory.resident()
    with _allocation(keep):
        way(images, labels)
    return memory.peak() - before


def record(out: Path, figures: Figures) -> Figures:
    """Put one model's figures into the results, in place of those of an earlier run."""
    known: Figures = {"runs": []}
    if out.exists():
        known = json.loads(out.read_text(encoding="utf-8"))
    runs = known["runs"]
    key = ("model", "threads", "memory_kept")
    before = [run for run in runs if all(run[part] == figures[part] for part in key)]
    runs = [run for run in runs if run not in before] + [_with_peers(figures, *before)]
    order = list(SUBJECTS)
    runs.sort(key=lambda run: (run["threads"], order.index(run["model"])))
    result = {"machine": machine(), "runs": runs}
    # Ways of others that were kept ran in versions that need not be here any more.
    versions = known.get("machine", {}).get("versions", {})
    result["machine"]["versions"] = versions | result["machine"]["versions"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _with_peers(figures: Figures, before: Figures | None = None) -> Figures:
    """Take over the ways of others that this run left out from one before it."""
    for section in ("images", "seconds", "medians", "ratios", "failures", "errors"):
        kept = (before or {}).get(section, {})
        others = {name: kept[name] for name in PEERS if name in kept}
        figures[section] = others | figures[section]
    return figures


def main() -> None:
    """Measure, write JSON and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(SUBJECTS), help="comma-separated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, may be empty")
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    parser.add_argument("--page", type=Path, default=Path("benchmarks/engine.md"))
    parser.add_argument(
        "--keep-memory", action="store_true", help="free memory as `failsearch index` does"
    )
    parser.add_argument(
        "--last-only", action="store_true", help="of our engine, only the last of its steps"
    )
    parser.add_argument("--table", action="store_true", help="only write the page anew")
    parser.add_argument("--only-memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # hooks and fallbacks of other libraries
    subjects = [SUBJECTS[name] for name in options.models.split(",")]
    if options.only_memory:
        way = options.only_memory
        peak = _measure_memory(subjects[0], way, options.threads, options.keep_memory)
        print(json.dumps({"peak_bytes": peak}))
        return
    peers = [name for name in options.peers.split(",") if name]
    if len(subjects) > 1 and not options.table:
        for subject in subjects:
            command = [sys.executable, "-m", "benchmarks.engine", *sys.argv[1:]]
            subprocess.run([*command, "--models", subject.name], check=True, stdout=sys.stderr)
    elif not options.table:
        figures = measure(
            subjects[0],
            options.threads,
            options.rounds,
            peers,
            options.peer_rounds,
            options.keep_memory,
            options.last_only,
        )
        record(options.out, figures)
        print(json.dumps({"model": subjects[0].name, **figures["ratios"]}), file=sys.stderr)
    page = table(json.loads(options.out.read_text(encoding="utf-8")))
    options.page.write_text(page, encoding="utf-8")
    print(page, end="")


if __name__ == "__main__":
    main()
