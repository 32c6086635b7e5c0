"""Image properties and metadata that the members of a mode share and correct samples lack.

Every comparison is made within classes: a mode of dark cats is compared with correct cats, so that
what is merely typical of a class is no finding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import erfc, exp, sqrt

import numpy as np

from ..modes import Mode, ModeReport
from ..words import percent
from .pictures import PROPERTIES, Pictures
from .report import Finding
from .settings import CAUSES, AuditSettings
from .significance import discoveries

EXAMPLES = 5
MOST_VALUES = 50
"""A text column with more values than this is an identifier rather than a cause."""
FEWEST = 5
"""Members of a mode that a comparison needs at least."""
CLEAR = 0.5
"""Effect from which on a property is said of the images of a mode, not of a tendency among them:
three of four pairs differ."""
SHOW: dict[str, Callable[[float], str]] = {
    "brightness": "{:.0f} of 255".format,
    "border brightness": "{:.0f} of 255".format,
    "pixels": "{:,.0f}".format,
    "aspect": lambda logarithm: f"{exp(logarithm):.2f} (width over height)",
}
"""How the properties of `pictures` are written, where a bare number would not do."""


@dataclass(frozen=True)
class Trait:
    """One measured property of all samples.

    Attributes:
        name: as it is shown.
        values: float64 [n], NaN where unknown; 0 or 1 for a value of a text column.
        words: what a low and a high value mean; None where samples have it or lack it.
        show: writes a value with its unit.
    """

    name: str
    values: np.ndarray
    words: tuple[str, str] | None
    show: Callable[[float], str] = "{:.3g}".format


@dataclass(frozen=True)
class Comparison:
    """Members of a mode against correct samples of the same classes.

    Members whose value is unknown, or whose class has no correct sample with a known one, cannot
    be compared and are in none of the figures.

    Attributes:
        count: how many members were compared.
        effect: Cliff's delta within classes, in [-1, 1]: how much more often a member exceeds a
            correct sample of its class than the reverse.
        p_value: two-sided, that the effect is chance.
        members: mean over the members that were compared.
        others: mean over correct samples, classes weighted as among those members.
    """

    count: int
    effect: float
    p_value: float
    members: float
    others: float


def causes(
    report: ModeReport,
    traits: Sequence[Trait],
    ids: Sequence[str],
    labels: np.ndarray,
    correct: np.ndarray,
    settings: AuditSettings,
) -> list[Finding]:
    """Find the properties that modes share.

    Args:
        report: the modes.
        traits: properties of all samples.
        ids: n sample ids.
        labels: int [n].
        correct: bool [n].
        settings: false_discovery and effect are used.

    Returns:
        one finding a mode and property, largest effect first.
    """
    position = {sample: row for row, sample in enumerate(ids)}
    tried: list[tuple[Mode, Trait, np.ndarray, Comparison]] = []
    for mode in report.modes:
        rows = np.array([position[sample] for sample in mode.samples if sample in position], int)
        for trait in traits:
            compared = compare(trait.values, rows, labels, correct)
            if compared is not None:
                tried.append((mode, trait, rows, compared))
    holds = discoveries(np.array([c.p_value for *_, c in tried]), settings.false_discovery)
    found = [
        _finding(mode, trait, rows, compared, ids, labels, correct, len(tried))
        for (mode, trait, rows, compared), hold in zip(tried, holds, strict=True)
        if hold and abs(compared.effect) >= settings.effect
    ]
    return sorted(found, key=lambda finding: (-finding.score, finding.subject, finding.reason))


def compare(
    values: np.ndarray, members: np.ndarray, labels: np.ndarray, correct: np.ndarray
) -> Comparison | None:
    """Compare members with the correct samples of their classes (van Elteren's stratified test).

    Args:
        values: float64 [n], NaN where unknown.
        members: rows of the mode.
        labels: int [n].
        correct: bool [n].

    Returns:
        None where too few can be compared, or where no value differs.
    """
    members = members[~np.isnan(values[members])]
    deltas, variances, sums, means, counts = [], [], [], [], []
    for label in np.unique(labels[members]):
        own = values[members[labels[members] == label]]
        others = values[(labels == label) & correct & ~np.isnan(values)]
        if not len(others):
            continue
        ordered = np.sort(others)
        below = np.searchsorted(ordered, own, "left")
        not_above = np.searchsorted(ordered, own, "right")
        deltas.append(float((below + not_above - len(others)).sum() / len(others)))
        variances.append(_delta_variance(np.concatenate([own, others]), len(own), len(others)))
        sums.append(float(own.sum()))
        means.append(float(others.mean()) * len(own))
        counts.append(len(own))
    total, variance = sum(counts), sum(variances)
    if total < FEWEST or variance <= 0:
        return None
    z = sum(deltas) / sqrt(variance)
    return Comparison(
        count=total,
        effect=sum(deltas) / total,
        p_value=erfc(abs(z) / sqrt(2)),
        members=sum(sums) / total,
        others=sum(means) / total,
    )


def _delta_variance(pooled: np.ndarray, m: int, n: int) -> float:
    """Return the variance of m·delta under the null, corrected for ties (as in Mann–Whitney)."""
    _, ties = np.unique(pooled, return_counts=True)
    size = m + n
    if size < 2:
        return 0.0
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (size * (size - 1))
    # U has variance mn/12 (size + 1 - tied), and m·delta = 2U/n - m.
    return 4 / n**2 * (m * n / 12) * (size + 1 - tied)


def traits_of(
    pictures: Pictures, ids: Sequence[str], metadata: Mapping[str, Sequence[object]]
) -> Iterator[Trait]:
    """Yield the properties of images, and of metadata columns, in the order of `ids`."""
    position = {sample: row for row, sample in enumerate(pictures.ids)}
    rows = np.array([position.get(sample, -1) for sample in ids])
    for column, (name, words) in enumerate(PROPERTIES.items()):
        values = np.full(len(ids), np.nan)
        values[rows >= 0] = pictures.properties[rows[rows >= 0], column]
        yield Trait(name, values, words, SHOW.get(name, "{:.3g}".format))
    for name, raw in metadata.items():
        yield from _metadata_traits(name, raw)


def _metadata_traits(name: str, raw: Sequence[object]) -> Iterator[Trait]:
    known = [value for value in raw if value is not None]
    if known and all(isinstance(value, int | float) for value in known):
        values = np.array([np.nan if value is None else float(value) for value in raw])  # type: ignore[arg-type]
        yield Trait(name, values, (f"low in {name}", f"high in {name}"))
        return
    texts = [None if value is None else str(value) for value in raw]
    distinct = sorted({text for text in texts if text is not None})
    if 2 <= len(distinct) <= MOST_VALUES:
        for value in distinct:
            has = np.array([np.nan if text is None else float(text == value) for text in texts])
            yield Trait(f"{name}={value}", has, None)


def _finding(
    mode: Mode,
    trait: Trait,
    rows: np.ndarray,
    compared: Comparison,
    ids: Sequence[str],
    labels: np.ndarray,
    correct: np.ndarray,
    tests: int,
) -> Finding:
    high = compared.effect > 0
    examples = _example_pairs(trait.values, rows, labels, correct, high)
    return Finding(
        kind=CAUSES,
        score=abs(compared.effect),
        subject=mode.id,
        samples=tuple(ids[member] for member, _ in examples),
        reason=_reason(mode.size, trait, compared),
        evidence={
            "mode": mode.id,
            "property": trait.name,
            "effect": compared.effect,
            "p_value": compared.p_value,
            "tests": tests,
            "compared": compared.count,
            "members_mean": compared.members,
            "correct_mean": compared.others,
            "pairs": [{"member": ids[m], "correct": ids[c]} for m, c in examples],
        },
    )


def _reason(size: int, trait: Trait, compared: Comparison) -> str:
    images = f"its {size} images"
    if compared.count < size:
        images = f"the {compared.count} of {images} that can be compared"
    if trait.words is None:
        return (
            f"{percent(compared.members)} of {images} have {trait.name}, "
            f"{percent(compared.others)} of correct images of the same classes do"
        )
    are = "are" if abs(compared.effect) >= CLEAR else "tend to be"
    beats = (1 + abs(compared.effect)) / 2
    return (
        f"{images} {are} {trait.words[compared.effect > 0]}: {trait.name} "
        f"{trait.show(compared.members)} on average, {trait.show(compared.others)} in correct "
        f"images of the same classes; pairs of the two differ this way {percent(beats)} of the time"
    )


def _example_pairs(
    values: np.ndarray, rows: np.ndarray, labels: np.ndarray, correct: np.ndarray, high: bool
) -> list[tuple[int, int]]:
    """Return (member, correct sample of its class): extreme members beside ordinary samples."""
    usual = correct & ~np.isnan(values)
    known = rows[~np.isnan(values[rows]) & np.isin(labels[rows], labels[usual])]
    order = known[np.argsort(-values[known] if high else values[known], kind="stable")]
    pairs = []
    for member in order[:EXAMPLES]:
        peers = np.flatnonzero((labels == labels[member]) & usual)
        ordinary = peers[np.argsort(values[peers], kind="stable")]
        # Different ordinary samples for different members: step around the median.
        pairs.append((int(member), int(ordinary[(len(peers) // 2 + len(pairs)) % len(peers)])))
    return pairs
