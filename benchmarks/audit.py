"""Does the audit find planted label errors? Average precision against single signals.

    python -m benchmarks.audit --db INDEX --cifar ../shared/cifar10 --checkpoint DIR --json FILE
    python -m benchmarks.audit --choosing --cifar ../shared/cifar10 --checkpoint DIR --json FILE

The situations are those of `benchmarks.audit_cases`; labels change as in
`benchmarks.planted.memorised`. The score was chosen on the models that `--choosing` measures; the
others judge it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from cleanlab.rank import get_label_quality_scores
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from benchmarks.audit_cases import (
    Case,
    candidates,
    finetuned_cases,
    held_out_cases,
    losses,
    memorised_cases,
)
from benchmarks.planted import finetuned, memorised
from failsearch.altered import trusted
from failsearch.forgotten import answers
from indexer.store import Store
from search.audit.belief import NEIGHBOUR_WEIGHT, Answers, believe, posterior, suggest
from search.audit.copies import look_closer
from search.audit.forgotten import ask_after_forgetting, with_forgotten
from search.audit.labels import CANDIDATES
from search.audit.settings import AuditSettings
from search.graph import knn_graph

NEIGHBOURS = AuditSettings().neighbours
OURS, DEEP, FORGET = "audit", "audit --deep", "audit --forget"
TWO_PAIRS = "deep with two pairs"
Ranking = tuple[np.ndarray, np.ndarray]
"""How suspicious each sample is, float64 [n], and the label suggested for it, int64 [n]."""


def single_signals(case: Case, shares: np.ndarray) -> dict[str, np.ndarray]:
    """Return the suspicion of each sample by every single signal, float64 [n] each."""
    rows = np.arange(len(case.given))
    p = softmax(case.logits.astype(np.float64), axis=1)
    given_p, other = suggest(p, case.given)
    quality = get_label_quality_scores(
        case.given, p, method="normalized_margin", adjust_pred_probs=True
    )
    return {
        "loss": losses(case.logits, case.given),
        "margin": p[rows, other] - given_p,
        "confident learning": -quality,
        "embedding neighbours": 1 - shares[rows, case.given],
    }


def rankings(case: Case, shares: np.ndarray) -> dict[str, Ranking]:
    """Return the audit's ranking, and those with a part of it left out or added."""
    rows = candidates(case.logits, case.given, CANDIDATES)
    logits, given, near = case.logits[rows], case.given[rows], shares[rows]
    beliefs = {
        OURS: believe(logits, near, given)[0],
        "audit without neighbours": believe(logits, None, given)[0],
        "audit without mistakes": posterior(logits, near, NEIGHBOUR_WEIGHT),
    }
    found = {name: _ranking(case, rows, p) for name, p in beliefs.items()}
    few = np.searchsorted(case.rows, rows)
    beliefs = _deep_beliefs(case, shares, np.arange(len(case.rows)))
    found |= {name: _ranking(case, case.rows, p) for name, p in beliefs.items()}
    found["deep, fewer candidates"] = _ranking(case, rows, _deep_beliefs(case, shares, few)[DEEP])
    return found


def _deep_beliefs(case: Case, shares: np.ndarray, few: np.ndarray) -> dict[str, np.ndarray]:
    """Return beliefs [m, C] about a few of the candidates, looked at as the deep audit does."""
    about = logits, near, given = _about(case, shares, few)
    shown = _look(case, about, few)
    whether, none = shown.whether, shown.which[:0]
    return {
        DEEP: believe(*about, shown)[0],
        "deep without neighbours": believe(logits, None, given, shown)[0],
        "deep without mistakes": posterior(logits, near, NEIGHBOUR_WEIGHT, whether),
        "deep without mirrored": believe(*about, Answers(whether[::2], none))[0],
        "deep with one pair": believe(*about, Answers(whether[:2], none))[0],
        TWO_PAIRS: believe(*about, Answers(whether, none))[0],
    }


def _belief_after_forgetting(case: Case, shares: np.ndarray) -> np.ndarray:
    """Return the belief [m, C] about the candidates with what a copy of the model says of them."""
    few = np.arange(len(case.rows))
    about = _about(case, shares, few)
    shown = _look(case, about, few)

    def forget(suspects: np.ndarray, closely: int, mirror: bool) -> np.ndarray:
        if case.subject is None:
            raise ValueError(f"{case.name} has no model to copy")
        rows = case.rows[suspects]
        if case.file.exists():
            with np.load(case.file) as stored:
                if np.array_equal(stored["rows"], rows):
                    return stored["said"]
        model, inputs = case.subject()
        correct = case.logits.argmax(1) == case.given
        said = answers(model, inputs, case.given, correct, rows, closely=closely, mirror=mirror)
        if said is None:
            raise ValueError(f"{case.name}: the copy learnt nothing")
        np.savez(case.file, rows=rows, said=said)
        return said

    said = ask_after_forgetting(forget, shown, *about)
    return believe(*about, with_forgotten(shown, said))[0]


def _about(
    case: Case, shares: np.ndarray, few: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, neighbours' shares and labels of a few of the candidates."""
    rows = case.rows[few]
    return case.logits[rows], shares[rows], case.given[rows]


def _look(case: Case, about: tuple[np.ndarray, np.ndarray, np.ndarray], few: np.ndarray) -> Answers:
    def look(positions: np.ndarray, pair: int) -> np.ndarray:
        made = case.copies[2 * pair : 2 * pair + 2, few[positions]]
        return trusted(made, about[0][positions])

    return look_closer(look, *about)


def _ranking(case: Case, rows: np.ndarray, p: np.ndarray) -> Ranking:
    """Rank candidates by belief p [m, C] before all others, which come by their loss."""
    suspicion = losses(case.logits, case.given) - 1e6
    suggested = suggest(case.logits.astype(np.float64) + 1e6, case.given)[1]
    given_p, suggested[rows] = suggest(p, case.given[rows])
    suspicion[rows] = -np.log(np.maximum(given_p, 1e-300))
    return suspicion, suggested


def vote(case: Case, neighbours: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the weighted share of each class among the neighbours, float64 [n, C]."""
    indices, cosines = neighbours
    weights = np.maximum(np.nan_to_num(cosines), 0)
    shares = np.zeros(case.logits.shape)
    np.add.at(shares, (np.arange(len(shares))[:, None], case.given[indices]), weights)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)


def measure(case: Case, neighbours: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Return average precision of every ranking, and how often the suggested label is right."""
    wrong = case.given != case.right
    shares = vote(case, neighbours)
    result = {
        name: float(average_precision_score(wrong, suspicion))
        for name, suspicion in single_signals(case, shares).items()
    }
    best = max(result.values())
    predicted = case.logits.argmax(1)
    result["wrong labels predicted"] = float((predicted == case.given)[wrong].mean())
    result["wrong labels among candidates"] = float(wrong[case.rows].sum() / wrong.sum())
    found = rankings(case, shares)
    if case.subject is not None:
        found[FORGET] = _ranking(case, case.rows, _belief_after_forgetting(case, shares))
    for name, (suspicion, suggested) in found.items():
        result[name] = float(average_precision_score(wrong, suspicion))
        if name in (OURS, DEEP, FORGET, TWO_PAIRS):
            first = np.argsort(-suspicion, kind="stable")[: wrong.sum()]
            first = first[wrong[first]]
            result[f"{name} ÷ best single"] = result[name] / best
            result[f"{name}: suggestion right"] = float((suggested == case.right)[first].mean())
    if FORGET in found:
        for name in (FORGET, f"{FORGET}: suggestion right"):  # of the same draw of labels
            result[f"{name}, gain"] = result[name] - result[name.replace(FORGET, DEEP)]
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--db", type=Path, help="index of images with right labels")
    parser.add_argument("--cifar", type=Path, help="train on noisy labels as well")
    parser.add_argument("--checkpoint", type=Path, help="fine-tune it on those of --cifar as well")
    parser.add_argument("--choosing", action="store_true", help="models the score was chosen on")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.checkpoint is not None and arguments.cifar is None:
        parser.error("--checkpoint needs the images of --cifar")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    if arguments.db is not None:
        cases += held_out_cases(Store.open(arguments.db), arguments.seeds, arguments.cache)
    if arguments.cifar is not None:
        small = memorised.CHOOSING if arguments.choosing else memorised.JUDGING
        cases += memorised_cases(small, arguments.cifar, arguments.cache)
        if arguments.checkpoint is not None:
            tuned = finetuned.CHOOSING if arguments.choosing else finetuned.JUDGING
            folders = (arguments.checkpoint, arguments.cifar, arguments.cache)
            cases += finetuned_cases(tuned, *folders)
    graphs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    outcomes: dict[str, list[dict[str, float]]] = {}
    for case in cases:
        if id(case.embeddings) not in graphs:
            graphs[id(case.embeddings)] = knn_graph(case.embeddings, NEIGHBOURS)
        found = measure(case, graphs[id(case.embeddings)])
        outcomes.setdefault(case.name, []).append(found)
    report(outcomes, arguments.json)


def report(outcomes: dict[str, list[dict[str, float]]], file: Path | None) -> None:
    """Print the means of every case, and of what was measured more than once the range as well."""
    document = {
        name: {
            "measured": len(found),
            "with a copy that forgot": sum(FORGET in one for one in found),
            **{
                of: {
                    key: float(f([one[key] for one in found if key in one]))
                    for key in max(found, key=len)
                }
                for of, f in (("mean", np.mean), ("lowest", np.min), ("highest", np.max))
            },
        }
        for name, found in outcomes.items()
    }
    columns = list(max((one for found in outcomes.values() for one in found), key=len))
    print("| case | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in document.items():
        cells = [
            f"{row['mean'][c]:.3f} [{row['lowest'][c]:.3f}, {row['highest'][c]:.3f}]"
            if c in row["mean"]
            else ""
            for c in columns
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if file:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
