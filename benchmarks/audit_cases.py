"""Samples with right and given labels, and what a model says of them: what audits are tried on.

*Held out*: a share of the labels of an index's images is changed; the model never saw them.
*Memorised*: a small model is trained on images with changed labels. *Fine-tuned*: a checkpoint is.
The last two are audited on these same images, whose wrong labels they have partly learnt.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax
from torch import Tensor, nn

from benchmarks.planted import finetuned, memorised
from benchmarks.planted.data import load
from benchmarks.planted.training import BATCH, to_tensor
from failsearch.altered import PAIRS, SecondLook, copies
from finetune.inputs import Inputs, TensorInputs
from finetune.population import open_population
from indexer.schema import EMBEDDING, ID, LOGITS
from indexer.store import Store
from search.audit.labels import DEEP_CANDIDATES
from search.modes.evidence import dense

RATES = (0.01, 0.05, 0.1)
FORGOTTEN = (0.05, 0)
"""Rate and seed of the held-out labels that a copy of the model is to forget as well."""
COPIES = 2 * len(PAIRS)
"""Of every candidate; also part of the names of files in the cache."""


Trained = tuple[nn.Module, Tensor, np.ndarray, np.ndarray]
"""A model in eval mode, its images float32 [n, 3, H, W], their right and given labels int64 [n]."""


@dataclass(frozen=True)
class Case:
    """Samples with right and given labels, and what a model says of them and of altered copies.

    Attributes:
        name: situation, noise and rate.
        logits: float32 [n, C].
        embeddings: float32 [n, E].
        right: int64 [n].
        given: int64 [n].
        rows: of the deep audit's candidates, those of highest loss, int64 [m].
        copies: logits of all pairs of altered copies of these, float32 [COPIES, m, C].
        subject: returns the model in eval mode and the images, [n]; None where no copy of it is
            to forget anything.
        file: of what such a copy says; its folder is there.
    """

    name: str
    logits: np.ndarray
    embeddings: np.ndarray
    right: np.ndarray
    given: np.ndarray
    rows: np.ndarray
    copies: np.ndarray
    subject: Callable[[], tuple[nn.Module, Inputs]] | None = None
    file: Path = Path()


def candidates(logits: np.ndarray, given: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of highest loss, which the audit looks at closely, int64 [m]."""
    return np.sort(np.argsort(-losses(logits, given), kind="stable")[:count])


def losses(logits: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each sample, float64 [n]."""
    return -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(given)), given]


def held_out_cases(store: Store, seeds: int, cache: Path) -> Iterator[Case]:
    """Yield an index's samples with planted noise at every rate, of every kind."""
    table = store.read([ID, LOGITS, EMBEDDING, "label"])
    logits, embeddings = (dense(table[n].combine_chunks()) for n in (LOGITS, EMBEDDING))
    right = table["label"].to_numpy().astype(np.int64)
    draws = [
        (how, rate, seed) for how in memorised.KINDS for rate in RATES for seed in range(seeds)
    ]
    labels = [memorised.flip(right, logits, rate, how, seed) for how, rate, seed in draws]
    chosen = [candidates(logits, given, DEEP_CANDIDATES) for given in labels]
    digest = store.manifest.model["weights_digest"][:12]
    path = cache / f"copies-{digest}-{seeds}-{COPIES}.npz"
    if not path.exists():
        needed = np.unique(np.concatenate(chosen))
        ids = table[ID].take(needed).to_pylist()
        look = SecondLook(store)
        made = np.concatenate([look.logits(ids, pair) for pair in range(len(PAIRS))])
        np.savez(path, rows=needed, copies=made)
    with np.load(path) as stored:
        known, made = stored["rows"], stored["copies"]

    def subject() -> tuple[nn.Module, Inputs]:
        population, _ = open_population(store)
        return population.model, population.inputs

    for (how, rate, seed), given, rows in zip(draws, labels, chosen, strict=True):
        here = made[:, np.searchsorted(known, rows)]
        name = f"held out, {how} {rate:.0%}"
        whose = subject if (rate, seed) == FORGOTTEN else None
        file = cache / f"held-out-{digest}-{how}-forgotten.npz"
        yield Case(name, logits, embeddings, right, given, rows, here, whose, file)


def memorised_cases(runs: tuple[memorised.Noisy, ...], cifar: Path, cache: Path) -> Iterator[Case]:
    """Yield the training images of small models that were trained on noisy labels."""
    for run in runs:

        def trained(run: memorised.Noisy = run) -> Trained:
            images = memorised.training_images(run, load(cifar, "train", superclasses=False))
            given = memorised.noisy_labels(run, images, cifar, cache)
            model = memorised.noisy_model(run, images, given, cache)
            return model, to_tensor(images.pixels), images.labels, given

        name = f"{run.degree} memorised, {run.how} {memorised.RATE:.0%}"
        yield _case(name, cache / run.name, trained)


def finetuned_cases(
    runs: tuple[finetuned.Tuned, ...], checkpoint: Path, cifar: Path, cache: Path
) -> Iterator[Case]:
    """Yield the images that a checkpoint was fine-tuned on with noisy labels."""
    for run in runs:

        def trained(run: finetuned.Tuned = run) -> Trained:
            images = load(cifar, "test", superclasses=False)
            model = finetuned.checkpoint(checkpoint)
            given = finetuned.noisy_labels(run, images, model)
            model = finetuned.tuned(run, model, images, given, cache)
            return model, finetuned.to_input(model, images.pixels), images.labels, given

        yield _case(f"fine-tuned, {run.how} {memorised.RATE:.0%}", cache / run.name, trained)


def _case(name: str, place: Path, trained: Callable[[], Trained]) -> Case:
    """Return the case of a trained model, whose outputs are kept in files that begin as `place`."""
    path = place.with_name(f"{place.name}-outputs-{COPIES}.npz")
    if not path.exists():
        _write(path, *trained())

    def subject() -> tuple[nn.Module, Inputs]:
        model, x, *_ = trained()
        return model, TensorInputs(x)

    file = place.with_name(f"{place.name}-forgotten.npz")
    with np.load(path) as stored:
        return Case(name, **{key: stored[key] for key in stored.files}, subject=subject, file=file)


def _write(path: Path, model: Any, x: Tensor, right: np.ndarray, given: np.ndarray) -> None:
    """Keep what a model says of its training images x [n, 3, H, W] and of altered copies."""
    logits, embeddings = memorised.outputs(model, x)
    rows = candidates(logits, given, DEEP_CANDIDATES)
    made = [
        np.concatenate([copies(model, batch, pair) for pair in range(len(PAIRS))])
        for batch in x[rows].split(BATCH)
    ]
    np.savez(
        path,
        logits=logits,
        embeddings=embeddings,
        right=right,
        given=given,
        rows=rows,
        copies=np.concatenate(made, axis=1),
    )
