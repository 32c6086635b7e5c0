"""Suspected label errors: how sure they are, which label is right, and what says so."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.schema import EMBEDDING, ID, LOGITS, PROFILE

from .. import topk
from ..modes.evidence import dense
from ..neighbours import SearchSettings, find_neighbours
from .report import Finding
from .settings import LABELS, AuditSettings

if TYPE_CHECKING:
    from indexer.store import Store

CANDIDATES = 2_000
"""Samples of highest loss that are looked at closely; at least five times those reported."""
SMOOTHING = 0.02
"""Share that a class without a neighbour is given, so that a vote rules nothing out."""
NEIGHBOUR_WEIGHT = 0.25
"""Weight of the neighbours' vote against the model, chosen on planted noise (benchmarks/audit)."""
SHOWN = 5
PROFILE_NEIGHBOURS = 10

Relabel = Callable[[Sequence[str], np.ndarray], np.ndarray]
"""(ids, labels int64 [n]) -> standardized profiles float32 [n, F] of these samples as if they had
these labels; it takes the model, which this package does without."""


@dataclass(frozen=True)
class Votes:
    """Nearest neighbours of candidates by embedding.

    Attributes:
        rows: positions of the neighbours in the index, int64 [m, k], nearest first; -1 for none.
        weights: cosines cut off at 0, float32 [m, k].
        shares: weighted share of each class among them, float64 [m, C].
    """

    rows: np.ndarray
    weights: np.ndarray
    shares: np.ndarray


def posterior(logits: np.ndarray, shares: np.ndarray | None, weight: float) -> np.ndarray:
    """Return the probability of each class for a sample, from model and neighbours.

    A product of experts: the model's softmax times the neighbours' vote to the power `weight`,
    the vote smoothed so that a class without a neighbour is not ruled out.

    Args:
        logits: float32 [m, C].
        shares: share of each class among the neighbours, float64 [m, C]; None without embeddings.
        weight: of the neighbours.

    Returns:
        float64 [m, C], rows sum to 1.
    """
    from scipy.special import log_softmax, softmax  # a third of a web server's start

    log_p = log_softmax(logits.astype(np.float64), axis=1)
    if shares is not None:
        log_p = log_p + weight * np.log((shares + SMOOTHING) / (1 + SMOOTHING * shares.shape[1]))
    return softmax(log_p, axis=1)


def label_errors(
    store: "Store", settings: AuditSettings, relabel: Relabel | None = None
) -> list[Finding]:
    """Rank the samples whose label is most probably wrong.

    The score is the probability, by model and neighbours together, that the label is not the
    given one. Only samples with a likelier label are reported.

    Args:
        store: the index.
        settings: top and neighbours are used.
        relabel: gives profiles under other labels, for the evidence; without it the profile under
            the suggested label stays unknown.
    """
    light = store.read([ID, "label", "loss", "margin", "label_name"])
    loss = light["loss"].to_numpy()
    count = min(len(loss), max(CANDIDATES, 5 * settings.top))
    rows = np.sort(np.argsort(-loss, kind="stable")[:count])
    labels = light["label"].to_numpy()
    ids = light[ID].to_pylist()
    chosen = [ids[row] for row in rows]
    logits = dense(store.take(chosen, [LOGITS])[LOGITS].combine_chunks())
    classes = store.manifest.classes
    votes = None
    if store.manifest.embedding is not None:
        votes = neighbour_votes(store, rows, chosen, labels, len(classes), settings.neighbours)
    p = posterior(logits, None if votes is None else votes.shares, NEIGHBOUR_WEIGHT)
    given = labels[rows]
    given_p, suggested = suggest(p, given)
    suspicious = np.flatnonzero(p[np.arange(count), suggested] > given_p)
    order = suspicious[np.argsort(given_p[suspicious], kind="stable")][: settings.top]
    near = _profile_evidence(store, [chosen[i] for i in order])
    under = _alternative_profiles(store, chosen, given, suggested, order, relabel)
    return [
        _finding(
            sample=chosen[i],
            names=(classes[given[i]], classes[suggested[i]]),
            probabilities=(float(given_p[i]), float(p[i, suggested[i]])),
            figures=(float(light["margin"][int(rows[i])].as_py()), float(loss[rows[i]])),
            neighbours=_neighbour_evidence(votes, i, ids, labels, classes),
            profile=near[place] | under[place],
        )
        for place, i in enumerate(order)
    ]


def suggest(p: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (probability of the given label, likeliest other label) of each row of p [m, C]."""
    rows = np.arange(len(p))
    others = p.copy()
    others[rows, given] = -1
    return p[rows, given], others.argmax(1)


def neighbour_votes(
    store: "Store",
    rows: np.ndarray,
    ids: Sequence[str],
    labels: np.ndarray,
    classes: int,
    k: int,
) -> Votes:
    """Let the k nearest samples by embedding vote on the class of each candidate.

    Embeddings are streamed; memory holds the candidates' embeddings and one batch.

    Args:
        store: the index.
        rows: positions of the candidates in the index, int64 [m].
        ids: their ids.
        labels: labels of all samples, int [n].
        classes: C.
        k: voters.
    """
    queries = _unit(dense(store.take(ids, [EMBEDDING])[EMBEDDING].combine_chunks()))
    best = np.full((len(rows), k), topk.ABSENT)
    start = 0
    for batch in store.scan([EMBEDDING]):
        block = _unit(dense(batch[EMBEDDING]))
        scores = queries @ block.T
        own = np.flatnonzero((rows >= start) & (rows < start + len(block)))
        scores[own, rows[own] - start] = np.nan
        best = topk.merge(best, topk.pack(scores, np.arange(start, start + len(block))))
        start += len(block)
    cosines, found = topk.unpack(topk.descending(best))
    weights = np.where(found < 0, 0, np.maximum(np.nan_to_num(cosines), 0))
    shares = np.zeros((len(rows), classes))
    np.add.at(shares, (np.arange(len(rows))[:, None], labels[np.maximum(found, 0)]), weights)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1e-12)
    return Votes(found, weights, shares)


def _neighbour_evidence(
    votes: Votes | None, i: int, ids: Sequence[str], labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    if votes is None:
        return {}
    rows = votes.rows[i][votes.rows[i] >= 0]
    counts = Counter(classes[label] for label in labels[rows])
    return {"ids": [ids[row] for row in rows[:SHOWN]], "labels": dict(counts.most_common())}


def _profile_evidence(store: "Store", ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what failures with a similar profile were confused for, per suspect."""
    if not ids:
        return []
    profiles = dense(store.take(ids, [PROFILE])[PROFILE].combine_chunks())
    settings = SearchSettings(k=PROFILE_NEIGHBOURS)
    themselves = [(sample,) for sample in ids]
    found = find_neighbours(store, profiles, settings, exclude=themselves)
    every = sorted({sample for near, _ in found for sample in near})
    table = store.take(every, ["label_name", "prediction_name"])
    columns = (column.to_pylist() for column in table.columns)
    pair = {name: f"{label} → {to}" for name, label, to in zip(every, *columns, strict=True)}
    return [
        {
            "ids": list(near[:SHOWN]),
            "confusions": dict(Counter(pair[sample] for sample in near).most_common()),
            "under_given": float(np.abs(profile).mean()),
        }
        for profile, (near, _) in zip(profiles, found, strict=True)
    ]


def _alternative_profiles(
    store: "Store",
    chosen: Sequence[str],
    given: np.ndarray,
    suggested: np.ndarray,
    order: np.ndarray,
    relabel: Relabel | None,
) -> list[dict[str, float]]:
    if relabel is None or not len(order):
        return [{} for _ in order]
    profiles = relabel([chosen[int(i)] for i in order], suggested[order])
    return [{"under_suggested": float(np.abs(profile).mean())} for profile in profiles]


def _finding(
    *,
    sample: str,
    names: tuple[str, str],
    probabilities: tuple[float, float],
    figures: tuple[float, float],
    neighbours: dict[str, Any],
    profile: dict[str, Any],
) -> Finding:
    (given, other), (given_p, other_p), (margin, loss) = names, probabilities, figures
    reasons = [
        f"labelled {given}, but {other} is likelier ({_percent(other_p)} against "
        f"{_percent(given_p)})"
    ]
    if neighbours:
        counts = neighbours["labels"]
        reasons.append(
            f"{counts.get(other, 0)} of its {sum(counts.values())} nearest images are {other}, "
            f"{counts.get(given, 0)} {given}"
        )
    if "under_suggested" in profile:
        reasons.append(
            f"its profile is {profile['under_given']:.2g} deviations from the mean as {given} and "
            f"{profile['under_suggested']:.2g} as {other}"
        )
    return Finding(
        kind=LABELS,
        score=1 - given_p,
        subject=sample,
        samples=(sample, *neighbours.get("ids", ())),
        reason="; ".join(reasons),
        evidence={
            "margin": margin,
            "loss": loss,
            "given_probability": given_p,
            "neighbours": neighbours,
            "profile": profile,
        },
        label_name=given,
        suggested_name=other,
        suggested_probability=other_p,
    )


def _percent(p: float) -> str:
    return f"{p:.1%}" if p >= 0.0005 else "less than 0.1%"


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
