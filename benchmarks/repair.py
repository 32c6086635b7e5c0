"""Repair of planted causes on unseen samples: which selection of filters fixes most at what cost.

For each model and each planted cause (see `benchmarks.planted`), the failures of that cause are
the mode. They are split with the rest of the test images into discover, guard and held-out; every
selection gets the same search (recipes, budget of weights and limit on guard are those of
`failsearch repair search`), and is judged on held-out samples alone:

    python -m benchmarks.repair --cifar ../shared/cifar10 --cache DIR --out RESULTS.json

Which failures are *caused*, and could be mended by mending the cause? Of marked images those that
are right without the mark. Of the other causes there is no such counterpart, and natural confusions
are in the mode too: there a failure counts where the model's *twin* is right, which was trained
with the same seed and recipe and without any planted cause.
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
from torch.nn import functional as F

from finetune.account import Account, account
from finetune.edits import Edit, targets_of
from finetune.inputs import TensorInputs
from finetune.masked import MaskedTraining
from finetune.population import Population
from finetune.rescore import inputs_on_device, rescore
from finetune.splits import DISCOVER, HELD_OUT, split
from finetune.training import Recipe
from finetune.workbench import (
    Candidate,
    ModeRepairSettings,
    Task,
    candidates,
    choose,
    gather_evidence,
)
from indexer.statistics import RunningStatistics, standardize

from .planted.pools import BACKGROUND, Pool, held_out_images, pool_of
from .planted.runs import CHOOSING, REPAIRED, twin_of
from .planted.training import to_tensor, trained
from .repair_table import table

SELECTIONS = ("gradient", "salient", "contrastive", "random", "least", "last", "all")
DRAWS = 1
"""Random selections a cause; the figures of several are averaged."""
PLAIN = "all, unguarded"
"""Full fine-tuning at the same budget, without a guard: what one would do by default."""
EVERYTHING = "everything"
"""The practical ceiling: all weights of all filters learn every discover sample, for long."""
LONG = 200
"""Steps of `EVERYTHING`."""
LONG_LR = 1e-3


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and write its JSON; print the table."""
    parser = argparse.ArgumentParser(description="Repair planted causes.")
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    judges = [run.name for run in REPAIRED if run.name not in CHOOSING]
    parser.add_argument("--runs", nargs="*", default=judges)
    parser.add_argument("--kinds", nargs="*", default=["patch", "noisy", "tone"])
    parser.add_argument("--selections", nargs="*", default=[*SELECTIONS, EVERYTHING])
    options = parser.parse_args(arguments)
    # What an earlier call has written is not measured again.
    trials = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {(trial["run"], trial["kind"], trial["selection"]) for trial in trials}
    for run in (run for run in REPAIRED if run.name in options.runs):
        pool = pool_of(run, options.cifar, options.cache)
        model = trained(run, options.cifar, options.cache)
        images, _, origins = held_out_images(run, options.cifar)
        inputs = to_tensor(images.pixels)
        twin = predictions(trained(twin_of(run), options.cifar, options.cache), inputs)
        for number, plant in enumerate(pool.plants):
            wanted = [n for n in options.selections if (run.name, plant.kind, n) not in done]
            if plant.kind in options.kinds and wanted:
                cause = Cause(pool, model, inputs, origins, twin, number)
                for name in wanted:
                    trials += cause.trials(name)
                    options.out.write_text(json.dumps(trials, indent=1))
    print(table(trials))


class Cause:
    """One planted cause of one model, as a task to repair.

    Args:
        pool: test images of the model, marked ones included.
        model: the planted model.
        images: inputs of the pool.
        origins: int64 [n], the plain image that each image was made of.
        twin: int64 [n], predictions of the model trained without the causes.
        plant: number of the cause among those of the model.
    """

    def __init__(
        self,
        pool: Pool,
        model: nn.Module,
        images: torch.Tensor,
        origins: np.ndarray,
        twin: np.ndarray,
        plant: int,
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
        self.twin = twin[keep[rows]]
        self.mended = mode[rows] & (self.twin == population.labels[rows])
        marked = self.kind == "patch"
        right = pool.prediction == pool.labels
        plain_right = np.isin(origins, origins[(pool.plant != plant) & right])[keep[rows]]
        self.caused = mode[rows] & plain_right if marked else self.mended
        self.clean = ~(marked & (pool.plant[keep[rows]] == plant))

    def trials(self, name: str) -> list[dict[str, Any]]:
        """Return one trial for each draw of a selection; full fine-tuning has an unguarded one."""
        started = time.perf_counter()
        if name == EVERYTHING:
            return [self._judge(name, learn_everything(self.task), started)]
        found = []
        for draw in range(DRAWS if name == "random" else 1):
            settings = ModeRepairSettings(selections=(name,), seed=self.pool.run.seed + 100 * draw)
            evidence = gather_evidence(self.task, (name,))
            tried = list(candidates(self.task, evidence, name, settings))
            found.append(self._judge(name, choose(tried, settings.max_drop), started))
            if name == "all":
                unguarded = max(tried, key=lambda one: one.fixed)
                found.append(self._judge(PLAIN, unguarded, started))
            started = time.perf_counter()
        return found

    def _judge(self, name: str, winner: Candidate | Edit | None, started: float) -> dict[str, Any]:
        """Judge a selection's winner on held-out samples; an absent one changes nothing."""
        population, rows = self.task.population, self.task.held_out
        labels = population.labels[rows]
        edit = winner.edit if isinstance(winner, Candidate) else winner or Edit(())
        after = rescore(population, {name: edit}, rows)[name].argmax(1)
        everything, clean = self._account(after, None), self._account(after, self.clean)
        parameters = sum(parameter.numel() for parameter in population.model.parameters())
        trial = {
            "run": self.pool.run.name,
            "kind": self.kind,
            "selection": name,
            "found": winner is not None,
            "winner": winner.describe() if isinstance(winner, Candidate) else None,
            "weights_share": edit.weights / parameters,
            "mode_failures": everything.mode_failures,
            "mode_fixed": everything.mode_fixed,
            "caused_failures": int(self.caused.sum()),
            "caused_fixed": int((self.caused & (after == labels)).sum()),
            "mended_failures": int(self.mended.sum()),
            "mended_fixed": int((self.mended & (after == labels)).sum()),
            **self._twins_figures(),
            "clean": clean.samples,
            "clean_fixed": clean.fixed,
            "clean_broken": clean.broken,
            "clean_mode_fixed": clean.mode_fixed,
            "clean_mode_failures": clean.mode_failures,
            "reverse_before": clean.reverse_before,
            "reverse_after": clean.reverse_after,
            "verdict": everything.verdict,
            "seconds": round(time.perf_counter() - started, 1),
        }
        print(json.dumps(trial), flush=True)
        return trial

    def _account(self, after: np.ndarray, among: np.ndarray | None) -> Account:
        population, rows = self.task.population, self.task.held_out
        among = np.ones(len(rows), bool) if among is None else among
        mode = np.isin(rows, self.task.failures(HELD_OUT))
        return account(
            population.labels[rows][among],
            population.predictions[rows][among],
            after[among],
            mode[among],
            self.task.pairs,
        )

    def _twins_figures(self) -> dict[str, int]:
        """Return how the twin does on other failures, which nothing planted has caused.

        Two models differ by chance too: the share of these that the twin gets right says how much.
        """
        population, rows = self.task.population, self.task.held_out
        labels = population.labels[rows]
        mode = np.isin(rows, self.task.failures(HELD_OUT))
        other = self.clean & ~mode & (population.predictions[rows] != labels)
        return {
            "other_failures": int(other.sum()),
            "other_mended": int((other & (self.twin == labels)).sum()),
            "reverse_twin": self._account(self.twin, self.clean).reverse_after,
        }


def learn_everything(task: Task) -> Edit:
    """Return the edit of full fine-tuning on all discover samples by their labels.

    Every batch has as many failures of the mode as a candidate's; nothing is kept, nothing guarded.
    """
    population, lesson = task.population, task.lesson
    targets = targets_of(population.layout, np.arange(len(population.layout)), population.model)
    labels, random = torch.from_numpy(population.labels), np.random.default_rng(0)
    discover = np.flatnonzero(task.parts == DISCOVER)
    with MaskedTraining(
        population.model, targets, lambda leaves: torch.optim.Adam(leaves, lr=LONG_LR)
    ) as training:
        for step in range(LONG):
            failures = random.choice(lesson.failures, Recipe.failures)
            rows = np.concatenate([failures, random.choice(discover, 128 - len(failures))])
            logits = population.model(inputs_on_device(population, rows))
            training.accumulate(F.cross_entropy(logits, labels[rows]))
            training.step(scale=1 - step / LONG)
        return training.edit()


def predictions(model: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Return the classes that a model predicts for inputs [n, 3, H, W], int64 [n]."""
    with torch.inference_mode():
        return torch.cat([model(part).argmax(1) for part in inputs.split(500)]).numpy()


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
