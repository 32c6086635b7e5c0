"""Repair of planted causes on unseen samples: which selection of filters fixes most at what cost.

For each model and each planted cause (see `benchmarks.planted`), the failures of that cause are
the mode. They are split with the rest of the test images into discover, guard and held-out; every
selection gets the same search (recipes, budget of weights and limit on guard are those of
`failsearch repair search`), and is judged on held-out samples alone:

    python -m benchmarks.repair --cifar ../shared/cifar10 --cache DIR --out RESULTS.json

A failure of a marked image counts as *caused* where the same image without the mark is classified
correctly. The other causes have no such counterpart, and every failure counts.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune.account import account
from finetune.edits import Edit
from finetune.inputs import TensorInputs
from finetune.population import Population
from finetune.rescore import rescore
from finetune.splits import HELD_OUT, split
from finetune.workbench import (
    Candidate,
    SearchSettings,
    Task,
    bisect,
    choose,
    gather_evidence,
)
from indexer.statistics import RunningStatistics, standardize

from .planted.pools import BACKGROUND, Pool, held_out_images, pool_of
from .planted.runs import REPAIRED
from .planted.training import to_tensor, trained
from .repair_table import table

SELECTIONS = ("salient", "contrastive", "random", "least", "last", "all")
DRAWS = 2
"""Random selections a cause; their figures are averaged."""
PLAIN = "all, unguarded"
"""Full fine-tuning at the same budget, without a guard: what one would do by default."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and write its JSON; print the table."""
    parser = argparse.ArgumentParser(description="Repair planted causes.")
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    # The first model was used to choose the recipes.
    parser.add_argument("--runs", nargs="*", default=[run.name for run in REPAIRED[1:]])
    parser.add_argument("--kinds", nargs="*", default=["patch", "noisy", "tone"])
    options = parser.parse_args(arguments)
    trials = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {(trial["run"], trial["kind"]) for trial in trials}
    for run in (run for run in REPAIRED if run.name in options.runs):
        pool = pool_of(run, options.cifar, options.cache)
        model = trained(run, options.cifar, options.cache)
        images, _, origins = held_out_images(run, options.cifar)
        for number, plant in enumerate(pool.plants):
            if plant.kind in options.kinds and (run.name, plant.kind) not in done:
                cause = Cause(pool, model, to_tensor(images.pixels), origins, number)
                trials += cause.trials()
                options.out.write_text(json.dumps(trials, indent=1))
    print(table(trials))


class Cause:
    """One planted cause of one model, as a task to repair.

    Args:
        pool: test images of the model, marked ones included.
        model: the planted model.
        images: inputs of the pool.
        origins: int64 [n], the plain image that each image was made of.
        plant: number of the cause among those of the model.
    """

    def __init__(
        self, pool: Pool, model: nn.Module, images: torch.Tensor, origins: np.ndarray, plant: int
    ) -> None:
        self.pool = pool
        self.kind = pool.plants[plant].kind
        # Images that carry another mark are left out; the other natural carriers are plain images.
        mine = (pool.plant == BACKGROUND) | (pool.plant == plant)
        natural = [n for n, other in enumerate(pool.plants) if other.kind != "patch"]
        keep = np.flatnonzero(mine | np.isin(pool.plant, natural))
        population = population_of(pool, model, images, keep)
        mode = np.isin(keep, pool.planted_failures(plant))
        strata = population.labels * population.logits.shape[1] + population.predictions
        parts = split(population.ids, strata, origins[keep], seed=pool.run.seed)
        self.task = Task(population, np.flatnonzero(mode), parts)
        rows = self.task.held_out
        right = pool.prediction == pool.labels
        plain_right = np.isin(origins, origins[(pool.plant != plant) & right])
        marked = self.kind == "patch"
        self.caused = mode[rows] & (plain_right[keep[rows]] if marked else True)
        self.clean = ~(pool.plant[keep[rows]] == plant) if marked else ~mode[rows]

    def trials(self) -> list[dict[str, Any]]:
        """Return one trial for each selection and draw."""
        found = []
        for name in SELECTIONS:
            for draw in range(DRAWS if name == "random" else 1):
                started = time.perf_counter()
                settings = SearchSettings(selections=(name,), seed=self.pool.run.seed + 100 * draw)
                evidence = gather_evidence(self.task, (name,))
                tried = list(bisect(self.task, evidence, name, settings))
                winner = choose(tried, settings.max_drop)
                found.append(self._judge(name, winner, started))
                if name == "all":
                    unguarded = max(tried, key=lambda one: one.fixed)
                    found.append(self._judge(PLAIN, unguarded, started))
        return found

    def _judge(self, name: str, winner: Candidate | None, started: float) -> dict[str, Any]:
        """Judge a selection's winner on held-out samples; an absent one changes nothing."""
        population, rows = self.task.population, self.task.held_out
        labels, before = population.labels[rows], population.predictions[rows]
        edit = Edit(()) if winner is None else winner.edit
        after = rescore(population, {name: edit}, rows)[name].argmax(1)
        mine = np.isin(rows, self.task.failures(HELD_OUT))
        everything = account(labels, before, after, mine, self.task.pairs)
        clean = self.clean
        plain = account(labels[clean], before[clean], after[clean], mine[clean], self.task.pairs)
        parameters = sum(parameter.numel() for parameter in population.model.parameters())
        trial = {
            "run": self.pool.run.name,
            "kind": self.kind,
            "selection": name,
            "winner": None if winner is None else winner.describe(),
            "weights_share": edit.weights / parameters,
            "mode_failures": everything.mode_failures,
            "mode_fixed": everything.mode_fixed,
            "caused_failures": int(self.caused.sum()),
            "caused_fixed": int((self.caused & (after == labels)).sum()),
            "clean": plain.samples,
            "clean_fixed": plain.fixed,
            "clean_broken": plain.broken,
            "verdict": everything.verdict,
            "seconds": round(time.perf_counter() - started, 1),
        }
        print(json.dumps(trial), flush=True)
        return trial


def population_of(
    pool: Pool, model: nn.Module, images: torch.Tensor, keep: np.ndarray
) -> Population:
    """Return the given rows of a pool, standardized over themselves."""
    running = RunningStatistics(pool.raw.shape[1])
    running.update(pool.raw[keep])
    profiles = standardize(pool.raw[keep], running.result())
    return Population(
        model=model.to(memory_format=torch.channels_last),
        layout=pool.layout,
        ids=tuple(f"{row:05}" for row in keep),
        labels=pool.labels[keep],
        logits=pool.logits[keep],
        inputs=TensorInputs(images[torch.from_numpy(keep)]),
        profiles=lambda rows: profiles[rows],
        classes=tuple(str(number) for number in range(pool.logits.shape[1])),
    )


if __name__ == "__main__":
    main()
