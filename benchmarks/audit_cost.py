"""What does an audit cost? Time and memory of all kinds together, at two sizes.

    python -m benchmarks.audit_cost INDEX --json FILE
    python -m benchmarks.audit_cost INDEX --deep --json FILE
    python -m benchmarks.audit_cost INDEX --forget --json FILE

audits the index and a half of it, each in a process of its own and with its modes found anew, and
extrapolates to 100,000 samples by the power law through the two times. With `--deep` the model is
shown altered copies of the label suspects: timed are the audit of labels alone and, from its
start on, the command `failsearch audit --deep`, which finds modes as well, on the whole index.
With `--forget` the command `failsearch audit --forget` is timed.
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import failsearch
from indexer.schema import ID, SAMPLES
from indexer.store import Store
from search.audit import AuditSettings, audit
from search.audit.settings import KINDS
from search.modes import find_modes

LARGE = 100_000


def halved(source: Path, target: Path) -> None:
    """Copy an index with every other sample left out."""
    shutil.copytree(source, target)
    store = Store.open(target)
    dropped = store.read([ID])[ID].to_pylist()[1::2]
    with store.writer():
        names = ", ".join("'" + sample.replace("'", "''") + "'" for sample in dropped)
        store.table(SAMPLES).delete(f"{ID} IN ({names})")


def measure(path: Path) -> dict[str, float]:
    """Find the modes and audit an index in this process; return seconds and peak memory."""
    store = Store.open(path)
    result: dict[str, float] = {"samples": store.count()}
    start = time.perf_counter()
    find_modes(store)
    result["modes"] = time.perf_counter() - start
    for kind in KINDS:
        begin = time.perf_counter()
        audit(store, AuditSettings(kinds=(kind,)))
        result[kind] = time.perf_counter() - begin
    result["seconds"] = time.perf_counter() - start
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return result


def deep(path: Path) -> dict[str, float]:
    """Audit an index with altered copies; return samples, seconds of labels and of the command."""
    index = failsearch.open(path)
    start = time.perf_counter()
    index.audit(kinds=("labels",), deep=True, device="cpu")
    labels = time.perf_counter() - start
    return {"samples": index.store.count(), "labels": labels, "command": command(path, "--deep")}


def command(path: Path, option: str) -> float:
    """Return the seconds of `failsearch audit` with an option, from its start on."""
    arguments = ["audit", option, "--device", "cpu", "--db", str(path), "--json"]
    start = time.perf_counter()
    words = [sys.executable, "-m", "failsearch", *arguments]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def extrapolate(small: dict[str, float], large: dict[str, float], samples: int) -> dict[str, float]:
    """Return the power of the growth and the seconds at a number of samples, if it holds."""
    power = math.log(large["seconds"] / small["seconds"], large["samples"] / small["samples"])
    seconds = large["seconds"] * (samples / large["samples"]) ** power
    return {"samples": samples, "power": power, "seconds": seconds}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--one", action="store_true", help="measure this index here and now")
    parser.add_argument("--deep", action="store_true", help="time the deep audit instead")
    parser.add_argument("--forget", action="store_true", help="time the audit after forgetting")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.index)))
        return
    with tempfile.TemporaryDirectory() as folder:
        half, whole = Path(folder) / "half", Path(folder) / "whole"
        shutil.copytree(arguments.index, whole)
        if arguments.deep:
            _report(deep(whole), arguments.json)
            return
        if arguments.forget:
            samples = Store.open(whole).count()
            _report({"samples": samples, "command": command(whole, "--forget")}, arguments.json)
            return
        halved(arguments.index, half)
        found = []
        for path in (half, whole):
            words = [sys.executable, "-m", "benchmarks.audit_cost", str(path), "--one"]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(done.stdout))
    document = {"measured": found, "extrapolated": extrapolate(found[0], found[1], LARGE)}
    _report(document, arguments.json)


def _report(document: dict, file: Path | None) -> None:
    print(json.dumps(document, indent=1))
    if file:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
