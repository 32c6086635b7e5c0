"""How often could a suggested label be right? Models that learnt right labels, as a bound.

    python -m benchmarks.audit_ceiling --cifar ../shared/cifar10 --checkpoint DIR --json FILE

On the wrong labels that the deep audit finds in partly memorised labels (see `benchmarks.audit`),
its suggestion stands beside that of two models of the same kind and training that were given right
labels only: of other images, so that they know no more of these than there is to see, and of these
very images, so that they were told the answers. For a fine-tuned checkpoint it stands beside that
of the checkpoint as it was before, which had not seen these images.
"""

import json
from pathlib import Path

import numpy as np
from scipy.special import softmax

from benchmarks.audit import DEEP, NEIGHBOURS, rankings, vote
from benchmarks.audit_cases import Case, finetuned_cases, memorised_cases
from benchmarks.options import planted_parser
from benchmarks.planted import finetuned
from benchmarks.planted.data import Images, load
from benchmarks.planted.memorised import (
    CHOOSING,
    Noisy,
    clean_model,
    other_images,
    outputs,
    training_images,
)
from benchmarks.planted.training import to_tensor
from search.audit.belief import suggest
from search.graph import knn_graph

SEED = 0
"""Of the small models that are looked at, one of each noise; the score was chosen on these."""


def found_wrong(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return the wrong labels among as many first suspects as labels are wrong.

    Returns:
        (rows int64 [t], labels suggested by the deep audit int64 [t]).
    """
    shares = vote(case, knn_graph(case.embeddings, NEIGHBOURS))
    suspicion, suggested = rankings(case, shares)[DEEP]
    wrong = case.given != case.right
    first = np.argsort(-suspicion, kind="stable")[: wrong.sum()]
    rows = first[wrong[first]]
    return rows, suggested[rows]


def ceiling(run: Noisy, train: Images, cifar: Path, cache: Path) -> dict[str, float]:
    """Return how often each suggestion is right for a run's model."""
    (case,) = memorised_cases((run,), cifar, cache)
    rows, suggested = found_wrong(case)
    found = _of_audit(case, rows, suggested)
    images = training_images(run, train)
    x = to_tensor(images.pixels[rows])
    for seen, learnt in (("others", other_images(run, train)), ("same", images)):
        model = clean_model(run.seed, learnt, seen, cache)
        found[f"right labels of {seen}"] = _right(case, rows, outputs(model, x)[0])
    return found


def finetuned_ceiling(
    run: finetuned.Tuned, images: Images, checkpoint: Path, cifar: Path, cache: Path
) -> dict[str, float]:
    """Return how often each suggestion is right for a fine-tuned checkpoint."""
    (case,) = finetuned_cases((run,), checkpoint, cifar, cache)
    rows, suggested = found_wrong(case)
    model = finetuned.checkpoint(checkpoint)
    logits = outputs(model, finetuned.to_input(model, images.pixels[rows]))[0]
    found = _of_audit(case, rows, suggested)
    return found | {"right labels of others": _right(case, rows, logits)}


def _of_audit(case: Case, rows: np.ndarray, suggested: np.ndarray) -> dict[str, float]:
    right = suggested == case.right[rows]
    return {
        "found": len(rows),
        "deep audit": float(right.mean()),
        "deep audit, its first tenth": float(right[: len(rows) // 10].mean()),
    }


def _right(case: Case, rows: np.ndarray, logits: np.ndarray) -> float:
    """Return how often a model's likeliest label that was not given is right."""
    likeliest = suggest(softmax(logits.astype(np.float64), axis=1), case.given[rows])[1]
    return float((likeliest == case.right[rows]).mean())


def main() -> None:
    """Run the benchmark."""
    parser = planted_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="that was fine-tuned, a timm directory")
    arguments = parser.parse_args()
    cifar, cache = arguments.cifar, arguments.cache
    train = load(cifar, "train", superclasses=False)
    document = {
        run.name: ceiling(run, train, cifar, cache)
        for run in CHOOSING
        if run.seed == SEED and run.degree == "partly" and run.how != "pairs"
    }
    if arguments.checkpoint is not None:
        test = load(cifar, "test", superclasses=False)
        for run in finetuned.JUDGING:
            found = finetuned_ceiling(run, test, arguments.checkpoint, cifar, cache)
            document[run.name] = found
    for name, found in document.items():
        print(name, {key: round(value, 3) for key, value in found.items()})
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
