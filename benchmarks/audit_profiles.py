"""Do saliency profiles help to find wrong labels? Each signal alone, and added to the audit's.

    python -m benchmarks.audit_profiles --cifar ../shared/cifar10 --json FILE

The training images of the first memorising model of each noise (see `benchmarks.audit`) are
profiled under their given labels and under those that the audit suggests. A signal is standardized
and added to the log-odds of the audit with the weight that turns out best, of either sign: more
than it could bring where the weight has to be chosen beforehand. Signals without profiles stand
beside them.
"""

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from benchmarks.audit import NEIGHBOURS, OURS, rankings, vote
from benchmarks.audit_cases import Case, losses, memorised_cases
from benchmarks.options import planted_parser
from benchmarks.planted.data import load
from benchmarks.planted.memorised import CHOOSING, Noisy, noisy_model, training_images
from benchmarks.planted.training import to_tensor
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout
from search.graph import knn_graph

WEIGHTS = (-1, -0.3, -0.1, 0.1, 0.3, 1)
BATCH = 64
PROFILE_NEIGHBOURS = 20


def profile_signals(
    given_raw: np.ndarray, other_raw: np.ndarray, late: slice, case: Case, suggested: np.ndarray
) -> dict[str, np.ndarray]:
    """Return signals of raw profiles under given and suggested labels, float64 [n] each.

    Args:
        given_raw: float32 [n, F].
        other_raw: under the suggested labels, float32 [n, F].
        late: columns of the last third of the layers.
        case: the samples.
        suggested: labels, int64 [n].
    """
    mean, deviation = given_raw.mean(0), np.maximum(given_raw.std(0), 1e-14)
    z, other_z = np.abs((given_raw - mean) / deviation), np.abs((other_raw - mean) / deviation)
    near, cosines = knn_graph(z.astype(np.float32), PROFILE_NEIGHBOURS)
    given = case.given
    return {
        "size of the profile": z.mean(1),
        "size of the gradient": given_raw.mean(1),
        "share of late layers": given_raw[:, late].sum(1) / given_raw.sum(1),
        "profile under the suggested label": -other_z.mean(1),
        "change of size to the suggested label": z.mean(1) - other_z.mean(1),
        "change of gradient, log": np.log(given_raw.mean(1) + 1e-9)
        - np.log(other_raw.mean(1) + 1e-9),
        "neighbours by profile, another label": (given[near] != given[:, None]).mean(1),
        "neighbours by profile, the same mistake": (
            (given[near] == given[:, None]) & (suggested[near] == suggested[:, None])
        ).mean(1),
        "neighbours by profile, their loss": losses(case.logits, given)[near].mean(1),
        "isolation among profiles": -cosines.mean(1),
    }


def other_signals(case: Case) -> dict[str, np.ndarray]:
    """Return signals of logits and embeddings that the audit does not use, float64 [n] each."""
    rows = np.arange(len(case.given))
    shifted = case.logits - case.logits.max(1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    fitted = cross_val_predict(
        linear, case.embeddings, case.given, cv=folds, method="predict_log_proba"
    )
    return {
        "entropy": -(p * np.log(np.maximum(p, 1e-30))).sum(1),
        "out-of-fold classifier on embeddings": -np.maximum(
            np.asarray(fitted)[rows, case.given], -30
        ),
    }


def measure(case: Case, signals: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return each signal's average precision alone, and its gain in the audit at best."""
    wrong = case.given != case.right
    shares = vote(case, knn_graph(case.embeddings, NEIGHBOURS))
    suspicion = rankings(case, shares)[OURS][0]
    suspicion = np.where(suspicion < -1e5, suspicion + 1e6, suspicion)
    suspicion = np.log(np.maximum(np.expm1(suspicion), 1e-12))  # of the wrong label, as log-odds
    before = average_precision_score(wrong, suspicion)
    found = {}
    for name, signal in signals.items():
        scaled = (signal - signal.mean()) / signal.std() * suspicion.std()
        with_it = [average_precision_score(wrong, suspicion + w * scaled) for w in WEIGHTS]
        found[name] = {
            "alone": float(average_precision_score(wrong, signal)),
            "gain": float(max(with_it) - before),
            "weight": WEIGHTS[int(np.argmax(with_it))],
        }
    return found


def raw_profiles(model: torch.nn.Module, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return raw profiles of images uint8 [n, 32, 32, 3], float32 [n, F]."""
    engine = SaliencyEngine(model, profile_layout(model))
    batches = zip(
        to_tensor(pixels).split(BATCH), torch.from_numpy(labels).split(BATCH), strict=True
    )
    return torch.cat([engine(images, label).profiles for images, label in batches]).numpy()


def outcome(run: Noisy, cifar: Path, cache: Path) -> dict[str, dict[str, float]]:
    """Return what each signal is worth on one model's training images."""
    case = next(memorised_cases((run,), cifar, cache))
    images = training_images(run, load(cifar, "train", superclasses=False))
    model = noisy_model(run, images, case.given, cache)
    shares = vote(case, knn_graph(case.embeddings, NEIGHBOURS))
    suggested = rankings(case, shares)[OURS][1]
    layers = profile_layout(model).layers
    late = slice(layers[-(len(layers) // 3)].start, None)
    given_raw = raw_profiles(model, images.pixels, case.given)
    other_raw = raw_profiles(model, images.pixels, suggested)
    signals = profile_signals(given_raw, other_raw, late, case, suggested)
    return measure(case, signals | other_signals(case))


def main() -> None:
    """Run the benchmark."""
    parser = planted_parser(__doc__)
    arguments = parser.parse_args()
    results = {
        run.how: outcome(run, arguments.cifar, arguments.cache) for run in CHOOSING if run.seed == 0
    }
    print("| signal | " + " | ".join(f"{how}: alone | gain (weight)" for how in results) + " |")
    print("|---" * (1 + 2 * len(results)) + "|")
    for name in next(iter(results.values())):
        cells = [
            f"{row[name]['alone']:.3f} | {row[name]['gain']:+.3f} ({row[name]['weight']:g})"
            for row in results.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
