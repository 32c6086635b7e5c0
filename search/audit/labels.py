"""Suspected label errors: how sure they are, which label is right, and what says so."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.schema import ID, LOGITS, PROFILE

from ..arrow import dense
from ..neighbours import SearchSettings, find_neighbours
from ..words import percent
from .belief import believe, suggest
from .copies import look_closer
from .forgotten import ask_after_forgetting, with_forgotten
from .report import Finding
from .settings import LABELS, AuditSettings
from .votes import Votes, neighbour_votes

if TYPE_CHECKING:
    from indexer.store import Store

CANDIDATES = 2_000
"""Samples of highest loss that are looked at closely; at least five times those reported."""
DEEP_CANDIDATES = 6_000
"""The same where the model looks again: labels that were learnt by heart have little loss."""
SHOWN = 5
PROFILE_NEIGHBOURS = 10

Relabel = Callable[[Sequence[str], np.ndarray], np.ndarray]
"""(ids, labels int64 [n]) -> standardized profiles float32 [n, F] of these samples as if they had
these labels; it takes the model, which this package does without."""

LookAgain = Callable[[Sequence[str], int], np.ndarray]
"""(ids, pair as in `copies`) -> logits float32 [2, n, C] of a pair of slightly altered copies of
each of these samples, NaN for a copy that tells nothing; it takes the model as well."""

ForgetSamples = Callable[[Sequence[str], int, bool], np.ndarray | None]
"""`Forget` of `forgotten` with ids in place of positions; it trains a copy of the model."""


def label_errors(
    store: "Store",
    settings: AuditSettings,
    relabel: Relabel | None = None,
    look_again: LookAgain | None = None,
    forget: ForgetSamples | None = None,
) -> tuple[list[Finding], int | None]:
    """Rank the samples whose label is most probably wrong.

    The score is the probability that the label is not the given one, by the model, the neighbours,
    the usual mistakes and, if asked, altered copies. Only samples with a likelier label are
    reported.

    Args:
        store: the index.
        settings: top and neighbours are used.
        relabel: gives profiles under other labels, for the evidence; without it the profile under
            the suggested label stays unknown.
        look_again: shows the model altered copies of the candidates.
        forget: trains a copy of the model without the most suspicious of these, and asks it about
            them; only after `look_again`.

    Returns:
        the strongest suspects, and how many there are in all; None where the model gets samples
        wrong that were no candidates, so that there may be more.
    """
    light = store.read([ID, "label", "loss", "margin", "correct"])
    loss = light["loss"].to_numpy()
    most = CANDIDATES if look_again is None else DEEP_CANDIDATES
    count = min(len(loss), max(most, 5 * settings.top))
    rows = np.sort(np.argsort(-loss, kind="stable")[:count])
    labels = light["label"].to_numpy()
    ids = light[ID].to_pylist()
    chosen = [ids[row] for row in rows]
    logits = dense(store.take(chosen, [LOGITS])[LOGITS])
    classes = store.manifest.classes
    votes = None
    if store.manifest.embedding is not None:
        votes = neighbour_votes(store, rows, chosen, labels, len(classes), settings.neighbours)
    given = labels[rows]
    shares = None if votes is None else votes.shares
    answers = forgotten = copies = None
    if look_again is not None:
        about = (logits, shares, given)
        answers = look_closer(lambda few, pair: look_again([chosen[i] for i in few], pair), *about)
        copies = answers.every
        if forget is not None:
            forgotten = ask_after_forgetting(
                lambda few, *how: forget([chosen[i] for i in few], *how), answers, *about
            )
            answers = with_forgotten(answers, forgotten)
    p, mistakes = believe(logits, shares, given, answers)
    given_p, suggested = suggest(p, given)
    suspicious = np.flatnonzero(p[np.arange(count), suggested] > given_p)
    order = suspicious[np.argsort(given_p[suspicious], kind="stable")][: settings.top]
    rest = np.delete(np.asarray(light["correct"].to_numpy(), bool), rows)
    near = _profile_evidence(store, [chosen[i] for i in order])
    under = _alternative_profiles(store, chosen, given, suggested, order, relabel)
    found = [
        _finding(
            sample=chosen[i],
            names=(classes[given[i]], classes[suggested[i]]),
            probabilities=(float(given_p[i]), float(p[i, suggested[i]])),
            figures=(float(light["margin"][int(rows[i])].as_py()), float(loss[rows[i]])),
            neighbours=_neighbour_evidence(votes, i, ids, labels, classes),
            copies=_taken_for(copies, i, classes),
            forgotten=_taken_for(forgotten, i, classes),
            alike=int(mistakes.counts[suggested[i], given[i]]),
            profile=near[place] | under[place],
        )
        for place, i in enumerate(order)
    ]
    return found, len(suspicious) if rest.all() else None


def _taken_for(said: np.ndarray | None, i: int, classes: Sequence[str]) -> dict[str, int]:
    """Return how many images a model takes for which class, by logits [a, m, C] of candidate i."""
    if said is None:
        return {}
    made = said[np.isfinite(said[:, i, 0]), i]
    return dict(Counter(classes[int(c)] for c in made.argmax(1)).most_common())


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
    profiles = dense(store.take(ids, [PROFILE])[PROFILE])
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
    copies: dict[str, int],
    forgotten: dict[str, int],
    alike: int,
    profile: dict[str, Any],
) -> Finding:
    (given, other), (given_p, other_p), (margin, loss) = names, probabilities, figures
    reasons = [
        f"labelled {given}, but {other} is likelier ({_probability(other_p)} against "
        f"{_probability(given_p)})"
    ]
    if neighbours:
        counts = neighbours["labels"]
        reasons.append(
            f"{counts.get(other, 0)} of its {sum(counts.values())} nearest images are {other}, "
            f"{counts.get(given, 0)} {given}"
        )
    if copies:
        reasons.append(
            f"of {sum(copies.values())} altered copies the model takes {copies.get(other, 0)} for "
            f"{other}, {copies.get(given, 0)} for {given}"
        )
    if forgotten:
        reasons.append(
            f"asked again after forgetting this label it takes {forgotten.get(other, 0)} of "
            f"{sum(forgotten.values())} for {other}, {forgotten.get(given, 0)} for {given}"
        )
    if alike > 1:
        reasons.append(f"{alike} samples labelled {given} are surely {other} by this measure")
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
            "altered_copies": copies,
            "after_forgetting": forgotten,
            "same_mistake": alike,
            "profile": profile,
        },
        label_name=given,
        suggested_name=other,
        suggested_probability=other_p,
    )


def _probability(p: float) -> str:
    return percent(p, 1) if p >= 0.0005 else "less than 0.1 %"
