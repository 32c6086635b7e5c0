"""How often could a suggested label be right? Models that learnt right labels, as a bound.

    python -m benchmarks.audit_ceiling --cifar ../shared/cifar10 --cache DIR --json FILE

On the wrong labels that the deep audit finds in partly memorised labels (see `benchmarks.audit`),
its suggestion stands beside that of two models of the same kind and training that were given right
labels only: of other images, so that they know no more of these than there is to see, and of these
very images, so that they were told the answers.
"""

import json
from pathlib import Path

import numpy as np
from scipy.special import softmax

from benchmarks.audit import DEEP, NEIGHBOURS, rankings, vote
from benchmarks.audit_cases import Case, memorised_cases
from benchmarks.options import planted_parser
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
"""Of the models that are looked at, one of each noise; the score was chosen on these."""


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
    right, given = case.right[rows], case.given[rows]
    images = training_images(run, train)
    found = {
        "found": len(rows),
        "deep audit": float((suggested == right).mean()),
        "deep audit, its first tenth": float((suggested == right)[: len(rows) // 10].mean()),
    }
    for seen, learnt in (("others", other_images(run, train)), ("same", images)):
        model = clean_model(run.seed, learnt, seen, cache)
        logits, _ = outputs(model, to_tensor(images.pixels[rows]))
        likeliest = suggest(softmax(logits.astype(np.float64), axis=1), given)[1]
        found[f"right labels of {seen}"] = float((likeliest == right).mean())
    return found


def main() -> None:
    """Run the benchmark."""
    parser = planted_parser(__doc__)
    arguments = parser.parse_args()
    train = load(arguments.cifar, "train", superclasses=False)
    runs = [
        run
        for run in CHOOSING
        if run.seed == SEED and run.degree == "partly" and run.how != "pairs"
    ]
    document = {}
    for run in runs:
        document[run.name] = ceiling(run, train, arguments.cifar, arguments.cache)
        print(run.name, {name: round(v, 3) for name, v in document[run.name].items()}, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
