"""The paper's tables 1 and 2 and its switch-off check, on any index.

Appendix D of Levin et al. picks failures whose neighbours mostly share their (label, prediction)
pair. Each gets one step on all, on the least salient, on random and on its most salient filters:
K is the number of its nearest failures that this corrects (itself included), ΔA the change of
accuracy over the whole index. The later version of the paper also sets such filters to zero and
looks at the sample itself. The whole index is scored for the few samples that are shown; K and
the switch-off check, which need little, are measured over many, and ΔA over several, from the
samples that a small step can flip.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from indexer.errors import SettingError
from indexer.progress import Progress, silent
from indexer.store import Store
from search.stored_graph import neighbour_graph

from .boundary_draw import draw_near_boundary
from .edits import Edit, RowEdit, targets_of
from .population import Population, open_population
from .profiles import mean_profile
from .repair import take_steps
from .rescore import rescore
from .selection import FilterEvidence, filter_count, select
from .table_results import (
    ARMS,
    PLAIN,
    ChangeRow,
    RepairTables,
    StepRow,
    SwitchOffRow,
    TableSettings,
    change_row,
)


def repair_tables(
    store: Store,
    settings: TableSettings | None = None,
    *,
    device: str = "cpu",
    progress: Progress = silent,
) -> RepairTables:
    """Measure the paper's tables on an index, which stays as it is."""
    settings = settings or TableSettings()
    population, _ = open_population(store, device)
    groups = eligible_groups(store, population, settings)
    if not groups:
        raise SettingError(
            f"{store.path} has no failure whose {settings.neighbours - 1} nearest ones mostly have "
            "its label and prediction: the tables are made of such failures"
        )
    shown = _of_different_pairs(population, groups, settings.samples)
    steps, sweep = [], []
    for group in shown:
        rows = _measure(population, group, settings, progress)
        wanted = {(arm, settings.lr_of(arm)) for arm in ARMS}
        steps += [row for row in rows if (row.arm, row.lr) in wanted]
        sweep += [row for row in rows if row.arm in ("salient", "all")]
    measured = _spread(groups, settings.many)
    names = population.classes
    return RepairTables(
        settings=settings,
        chosen=tuple(
            (
                population.ids[group[0]],
                names[population.labels[group[0]]],
                names[population.predictions[group[0]]],
            )
            for group in shown
        ),
        steps=tuple(steps),
        sweep=tuple(sweep),
        many=_mean_corrected(population, measured, settings, progress),
        changes=_accuracy_changes(
            population, _spread(groups, settings.changes), settings, progress
        ),
        switched_off=_switch_off(population, measured, settings, progress),
    )


def eligible_groups(
    store: Store, population: Population, settings: TableSettings
) -> list[np.ndarray]:
    """Return the groups of failures whose neighbours mostly share their pair.

    Returns:
        int64 [neighbours] each, the failure itself first; largest share first, then the failure
        of the smallest loss, which is the nearest to being right.
    """
    graph = neighbour_graph(store, k=settings.neighbours - 1)
    rows = population.rows(graph.ids)
    pairs = population.labels * len(population.classes) + population.predictions
    found = []
    for row, neighbours in zip(rows, graph.indices, strict=True):
        group = rows[neighbours[neighbours >= 0]]
        share = float((pairs[group] == pairs[row]).mean()) if len(group) else 0.0
        if share >= settings.share:
            found.append(
                (-share, _loss(population.logits[row], int(population.labels[row])), row, group)
            )
    found.sort(key=lambda entry: entry[:3])
    return [np.concatenate([[row], group]) for _, _, row, group in found]


def zeroed(population: Population, columns: np.ndarray) -> Edit:
    """Return the edit that sets filters to zero."""
    weights = dict(population.model.named_parameters())
    targets = targets_of(population.layout, columns, population.model)
    rows = []
    for name, chosen in targets.items():
        before = weights[name].detach()[chosen].cpu()
        rows.append(RowEdit(name, chosen, before, torch.zeros_like(before)))
    return Edit(tuple(rows))


def _measure(
    population: Population, group: np.ndarray, settings: TableSettings, progress: Progress
) -> list[StepRow]:
    """Return every arm and step size of one sample, the whole index being scored in one pass."""
    plan = {("all", settings.lr_all), *((a, settings.lr) for a in ("salient", "least"))}
    plan |= {(arm, lr) for arm in ("salient", "all") for lr in settings.sweep}
    edits = {
        (arm, lr, 0): take_steps(population, columns, group[:1], lr=lr)
        for arm, columns in _arms(population, group[0], settings)
        for lr in sorted({lr for name, lr in plan if name == arm})
    }
    for seed, columns in enumerate(
        _random_arms(population, settings, range(settings.scored_seeds))
    ):
        edits["random", settings.lr, seed] = take_steps(
            population, columns, group[:1], lr=settings.lr
        )
    keyed = {f"{arm}|{lr}|{seed}": edit for (arm, lr, seed), edit in edits.items()}
    logits = rescore(population, keyed, progress=progress)
    before = (population.predictions == population.labels).mean()
    results: dict[tuple[str, float], list[tuple[int, float]]] = {}
    for (arm, lr, _), values in zip(edits, logits.values(), strict=True):
        right = values.argmax(1) == population.labels
        entry = int(right[group].sum()), float(right.mean() - before)
        results.setdefault((arm, lr), []).append(entry)
    if settings.seeds > settings.scored_seeds:
        corrected = _corrected(population, group, settings)["random"]
    else:
        corrected = float(np.mean([k for k, _ in results["random", settings.lr]]))
    return [
        StepRow(
            population.ids[group[0]],
            arm,
            lr,
            corrected if arm == "random" else float(np.mean([k for k, _ in entries])),
            float(np.mean([change for _, change in entries])),
        )
        for (arm, lr), entries in sorted(results.items())
    ]


def _corrected(
    population: Population, group: np.ndarray, settings: TableSettings
) -> dict[str, float]:
    """Return K of table 1 for each arm; for random filters the mean over all seeds."""
    arms = dict(_arms(population, group[0], settings))
    edits = {
        arm: take_steps(
            population,
            columns,
            group[:1],
            lr=settings.lr_of(arm),
        )
        for arm, columns in arms.items()
    }
    edits[PLAIN] = take_steps(
        population, arms["salient"], group[:1], lr=settings.lr, optimizer=torch.optim.SGD
    )
    for seed, columns in enumerate(_random_arms(population, settings, range(settings.seeds))):
        edits[f"random{seed}"] = take_steps(population, columns, group[:1], lr=settings.lr)
    logits = rescore(population, edits, group)
    labels = population.labels[group]
    counts = {name: int((values.argmax(1) == labels).sum()) for name, values in logits.items()}
    draws = [count for name, count in counts.items() if name.startswith("random")]
    fixed = {arm: float(counts[arm]) for arm in (*arms, PLAIN)}
    return {**fixed, "random": float(np.mean(draws))}


def _mean_corrected(
    population: Population,
    groups: Sequence[np.ndarray],
    settings: TableSettings,
    progress: Progress,
) -> tuple[StepRow, ...]:
    found: list[Mapping[str, float]] = []
    with progress("Neighbours corrected", len(groups), 0) as tracker:
        for group in groups:
            found.append(_corrected(population, group, settings))
            tracker.advance(1)
    return tuple(
        StepRow(
            f"mean of {len(groups)}",
            arm,
            settings.lr_of(arm),
            float(np.mean([one[arm] for one in found])) if found else 0.0,
            None,
        )
        for arm in (*ARMS, PLAIN)
    )


def _accuracy_changes(
    population: Population,
    groups: Sequence[np.ndarray],
    settings: TableSettings,
    progress: Progress,
) -> tuple[ChangeRow, ...]:
    """Return ΔA of each arm, each sample with its own draws of random filters and of images."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    right = population.predictions == population.labels
    with progress("Change of accuracy", len(groups), 0) as tracker:
        for seed, group in enumerate(groups):
            columns = dict(_arms(population, group[0], settings))
            columns["random"] = next(_random_arms(population, settings, (seed,)))
            edits = {
                arm: take_steps(population, columns[arm], group[:1], lr=settings.lr_of(arm))
                for arm in ARMS
            }
            draw = draw_near_boundary(population.logits, settings.nearest, settings.drawn, seed)
            labels = population.labels[draw.rows]
            for arm, logits in rescore(population, edits, draw.rows).items():
                found[arm].append(draw.change(right[draw.rows], logits.argmax(1) == labels))
            tracker.advance(1)
    return tuple(
        change_row(arm, settings.lr_of(arm), values) for arm, values in found.items() if values
    )


def _switch_off(
    population: Population,
    groups: Sequence[np.ndarray],
    settings: TableSettings,
    progress: Progress,
) -> tuple[SwitchOffRow, ...]:
    changes: dict[str, list[float]] = {"salient": [], "random": [], "least": []}
    corrected: dict[str, list[bool]] = {arm: [] for arm in changes}
    with progress("Switching filters off", len(groups), 0) as tracker:
        for group in groups:
            row, label = group[0], int(population.labels[group[0]])
            arms = [(a, c) for a, c in _arms(population, row, settings) if a != "all"]
            draws = _random_arms(population, settings, range(settings.seeds))
            arms += [("random", columns) for columns in draws]
            before = _loss(population.logits[row], label)
            for arm, columns in arms:
                edit = {arm: zeroed(population, columns)}
                logits = rescore(population, edit, group[:1])[arm][0]
                changes[arm].append(_loss(logits, label) - before)
                corrected[arm].append(bool(logits.argmax() == label))
            tracker.advance(1)
    return tuple(
        SwitchOffRow(arm, len(groups), float(np.mean(values)), float(np.mean(corrected[arm])))
        for arm, values in changes.items()
        if values
    )


def _arms(
    population: Population, row: int, settings: TableSettings
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arms that hang on a sample alone, with their columns."""
    mean = mean_profile(population, np.array([row]))
    evidence = FilterEvidence(mean, np.zeros_like(mean))
    count = filter_count(settings.fraction, len(mean))
    for arm in ("salient", "least", "all"):
        yield arm, select(arm, evidence, count)


def _random_arms(
    population: Population, settings: TableSettings, seeds: Iterable[int]
) -> Iterator[np.ndarray]:
    nothing = np.zeros(len(population.layout))
    count = filter_count(settings.fraction, len(nothing))
    for seed in seeds:
        yield select("random", FilterEvidence(nothing, nothing), count, seed)


def _of_different_pairs(
    population: Population, groups: Sequence[np.ndarray], count: int
) -> list[np.ndarray]:
    seen, chosen = set(), []
    for group in groups:
        pair = population.labels[group[0]], population.predictions[group[0]]
        if pair not in seen and len(chosen) < count:
            seen.add(pair)
            chosen.append(group)
    return chosen


def _spread(groups: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Return `count` groups at even distances, so that easy and hard samples are both in."""
    if len(groups) <= count:
        return list(groups)
    return [groups[int(i)] for i in np.linspace(0, len(groups) - 1, count)]


def _loss(logits: np.ndarray, label: int) -> float:
    """Return the cross-entropy of one row of logits, in nats."""
    wide = logits.astype(np.float64) - logits.max()
    return float(np.log(np.exp(wide).sum()) - wide[label])
