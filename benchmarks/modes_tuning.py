"""Which settings of each slice discovery method find planted causes best?

    python -m benchmarks.modes_tuning --cifar ../shared/cifar10 --cache DIR --json FILE

measures every listed setting of every method on the models in `TUNING`, as `benchmarks.modes`
measures the chosen ones on the others. The best has the highest mean precision@10, of equals it is
the first. Methods that are not measured stay in FILE as they are.
"""

import json
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.modes import BUDGET, precision_at_10
from benchmarks.options import planted_parser
from benchmarks.planted.families import Family
from benchmarks.planted.ours import METHODS
from benchmarks.planted.peers import PEERS
from benchmarks.planted.pools import pool_of
from benchmarks.planted.problems import problems_of
from benchmarks.planted.runs import RUNS, TUNING, Run

FAMILIES: dict[str, Family] = METHODS | PEERS
Precisions = dict[str, dict[str, float]]
"""By settings, written as JSON, and by problem."""


def precisions_of(cifar: Path, cache: Path, work: tuple[Run, str]) -> Precisions:
    """Return the precision of every setting of one family on all problems of one model."""
    run, name = work
    found: Precisions = defaultdict(dict)
    for problem in problems_of(pool_of(run, cifar, cache)):
        for settings, slices in FAMILIES[name].every(problem, BUDGET):
            precision = precision_at_10(slices[:BUDGET], problem.answer)
            found[json.dumps(settings)][problem.name] = precision
    return found


def summarize(name: str, found: Precisions) -> dict:
    """Return what a family's settings reach: the best one, the chosen one, and the middle one."""
    means = {settings: float(np.mean(list(of.values()))) for settings, of in found.items()}
    best = max(means, key=lambda settings: means[settings])
    chosen = FAMILIES[name].chosen
    return {
        "method": name,
        "settings": len(means),
        "problems": len(next(iter(found.values()))),
        "best": json.loads(best),
        "best_precision_at_10": means[best],
        "chosen": chosen,
        "chosen_precision_at_10": next(
            value for settings, value in means.items() if json.loads(settings) == chosen
        ),
        "median_precision_at_10": float(np.median(list(means.values()))),
    }


def main() -> None:
    """Run the benchmark."""
    parser = planted_parser(__doc__)
    parser.add_argument("--method", action="append", choices=FAMILIES, help="these only")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    arguments = parser.parse_args()
    names = arguments.method or list(FAMILIES)
    runs = [run for run in RUNS if run.name in TUNING]
    work = [(run, name) for name in names for run in runs]
    found: dict[str, Precisions] = {name: defaultdict(dict) for name in names}
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as workers:
        measure = partial(precisions_of, arguments.cifar, arguments.cache)
        for (run, name), some in zip(work, workers.map(measure, work), strict=True):
            for settings, by_problem in some.items():
                found[name][settings] |= by_problem
            print(f"{run.name}: {name} measured", flush=True)
            if run is runs[-1]:
                report(summarize(name, found[name]), arguments.json)


def report(row: dict, file: Path | None) -> None:
    """Print what a method reaches and keep it in a file beside the others."""
    print(
        f"{row['method']}: {row['settings']} settings, best {row['best_precision_at_10']:.3f} "
        f"{row['best']}, chosen {row['chosen_precision_at_10']:.3f}, "
        f"median {row['median_precision_at_10']:.3f}",
        flush=True,
    )
    if file:
        rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        rows[row["method"]] = row
        file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
