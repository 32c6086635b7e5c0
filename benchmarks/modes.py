"""Do modes find planted causes of failure? Precision@10 against other slice discovery methods.

    python -m benchmarks.modes --cifar ../shared/cifar10 --cache DIR --json FILE
    python -m benchmarks.modes --tuning --cifar ../shared/cifar10 --cache DIR --json FILE

trains small models on CIFAR-10 with planted causes (once; they stay in the cache), mixes held-out
failures of planted and natural causes, and asks every method for at most `BUDGET` slices of the
failures. A slice's precision@10 is the share of planted failures among its first ten, and a
method's is that of its best slice (Eyuboglu et al. 2022).

The settings of all methods were chosen on the models in `TUNING` (`benchmarks.modes_tuning`);
`--tuning` measures on these, and what single settings of the modes give. Without it the models that
nothing was chosen on are used; `--runs 3` is a subset of minutes.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.options import planted_parser
from benchmarks.planted.families import Method, Slices
from benchmarks.planted.ours import METHODS, OURS, VARIANTS
from benchmarks.planted.peers import PEERS
from benchmarks.planted.pools import pool_of
from benchmarks.planted.problems import Problem, problems_of
from benchmarks.planted.runs import RUNS, TUNING, Run

BUDGET = 30
RECOVERED = 0.8
"""Precision@10 from which on a planted cause counts as recovered."""
ALARM = 0.5
"""On an unplanted model, precision@10 of a cause it never learnt that counts as a false alarm."""
LEVELS = ("easy", "medium", "hard", "several")


@dataclass(frozen=True)
class Outcome:
    """One method on one problem."""

    method: str
    problem: str
    kind: str
    level: str
    planted: int
    failures: int
    precision: float
    seconds: float


def precision_at_10(slices: Slices, answer: np.ndarray) -> float:
    """Return the share of planted failures in the first ten of the best slice."""
    return max((float(answer[rows[:10]].sum()) / 10 for rows in slices), default=0.0)


def outcomes_of(cifar: Path, cache: Path, methods: dict[str, Method], run: Run) -> list[Outcome]:
    """Return the outcomes of every method on all problems of one model."""
    pool = pool_of(run, cifar, cache)
    return [outcome for problem in problems_of(pool) for outcome in measure(problem, methods)]


def measure(problem: Problem, methods: dict[str, Method]) -> Iterable[Outcome]:
    """Yield the outcome of every method on a problem."""
    for name, method in methods.items():
        start = time.perf_counter()
        slices = method(problem, BUDGET)[:BUDGET]
        yield Outcome(
            method=name,
            problem=problem.name,
            kind=problem.kind,
            level=problem.level,
            planted=int(problem.answer.sum()),
            failures=len(problem.failures),
            precision=precision_at_10(slices, problem.answer),
            seconds=time.perf_counter() - start,
        )


def summarize(outcomes: Sequence[Outcome]) -> list[dict]:
    """Return one row a method: means, intervals by bootstrap over problems, gap to ours."""
    planted: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        if outcome.level != "unplanted":
            planted[outcome.method][outcome.problem] = outcome
    ours = planted[OURS]
    rows = []
    for method, by_problem in planted.items():
        precision = np.array([outcome.precision for outcome in by_problem.values()])
        gap = np.array([ours[name].precision - o.precision for name, o in by_problem.items()])
        models = np.array([name.split("/")[0] for name in by_problem])
        alarms = [
            o.precision >= ALARM for o in outcomes if o.method == method and o.level == "unplanted"
        ]
        row = {
            "method": method,
            "precision_at_10": float(precision.mean()),
            "interval": bootstrap(precision),
            "ours_minus_it": float(gap.mean()),
            "ours_minus_it_interval": bootstrap(gap),
            "interval_by_model": bootstrap(precision, models),
            "ours_minus_it_interval_by_model": bootstrap(gap, models),
            "recovered": float((precision >= RECOVERED).mean()),
            "false_alarms": float(np.mean(alarms)) if alarms else None,
            "seconds_a_problem": float(np.mean([o.seconds for o in by_problem.values()])),
        }
        for field, values in (("level", LEVELS), ("kind", _kinds(by_problem.values()))):
            chosen = {value: _precisions(by_problem.values(), field, value) for value in values}
            row[f"by_{field}"] = {value: float(np.mean(p)) for value, p in chosen.items() if p}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["precision_at_10"])


def bootstrap(
    values: np.ndarray, clusters: np.ndarray | None = None, repeats: int = 5000
) -> tuple[float, float]:
    """Return the 95 % interval of the mean by resampling problems, or whole models.

    Args:
        values: one a problem, float [n].
        clusters: the model of each problem; problems of one model are then drawn together.
        repeats: drawings.
    """
    random = np.random.default_rng(0)
    _, cluster = np.unique(
        np.arange(len(values)) if clusters is None else clusters, return_inverse=True
    )
    count = cluster.max() + 1
    sums, sizes = np.bincount(cluster, values, count), np.bincount(cluster, minlength=count)
    drawn = random.integers(0, count, (repeats, count))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def table(rows: Sequence[dict]) -> str:
    """Return the summary as a Markdown table."""
    kinds = sorted({kind for row in rows for kind in row["by_kind"]})
    head = ["method", "precision@10", "ours − it", "the same, by model", *LEVELS]
    lines = [[*head, "recovered", "false alarms", *kinds]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        alarms = row["false_alarms"]
        line = [
            row["method"],
            f"{row['precision_at_10']:.3f} {_interval(row['interval'])}",
            f"{row['ours_minus_it']:+.3f} {_interval(row['ours_minus_it_interval'])}",
            _interval(row["ours_minus_it_interval_by_model"]),
            *(_cell(row["by_level"], level) for level in LEVELS),
            f"{row['recovered']:.0%}",
            "–" if alarms is None else f"{alarms:.0%}",
            *(_cell(row["by_kind"], kind) for kind in kinds),
        ]
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Run the benchmark."""
    parser = planted_parser(__doc__)
    parser.add_argument("--runs", type=int, default=len(RUNS), help="models, from the first on")
    parser.add_argument("--tuning", action="store_true", help="models that settings were chosen on")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    arguments = parser.parse_args()
    if arguments.runs < 2:
        parser.error("--runs: at least 2, since the first model has nothing planted")
    methods: dict[str, Method] = {**METHODS, **PEERS, **(VARIANTS if arguments.tuning else {})}
    runs = [run for run in RUNS if (run.name in TUNING) == arguments.tuning][: arguments.runs]
    outcomes = []
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as workers:
        work = partial(outcomes_of, arguments.cifar, arguments.cache, methods)
        for run, found in zip(runs, workers.map(work, runs), strict=True):
            outcomes += found
            print(f"{run.name}: {len(outcomes) // len(methods)} problems so far", flush=True)
    rows = summarize(outcomes)
    print(table(rows))
    if arguments.json:
        document = {
            "models": [run.name for run in runs],
            "planted_settings": len({o.problem for o in outcomes if o.level != "unplanted"}),
            "unplanted_settings": len({o.problem for o in outcomes if o.level == "unplanted"}),
            "summary": rows,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _kinds(outcomes: Iterable[Outcome]) -> list[str]:
    return sorted({outcome.kind for outcome in outcomes})


def _precisions(outcomes: Iterable[Outcome], field: str, value: str) -> list[float]:
    return [outcome.precision for outcome in outcomes if getattr(outcome, field) == value]


def _interval(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:+.2f}, {bounds[1]:+.2f}]"


def _cell(values: dict[str, float], key: str) -> str:
    return f"{values[key]:.2f}" if key in values else "–"


if __name__ == "__main__":
    main()
