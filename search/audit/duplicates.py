"""Exact and near-duplicate images, within an index and across two."""

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import numpy as np

from ..words import percent
from .pictures import SIDE, Pictures
from .report import Finding
from .settings import DUPLICATES, LEAKS

BANDS = 8
"""Two 64-bit hashes that differ in at most 7 bits agree in one of 8 bytes: a pigeonhole."""
NEAR_BITS = 7
BLOCK = 512
FLAT = 4.0
"""Standard deviation, in gray levels, below which a miniature shows nothing to compare."""

Pair = tuple[int, int, float]


def duplicates(
    pictures: Pictures, labels: dict[str, str], believed: dict[str, float], similarity: float
) -> list[Finding]:
    """Find groups of identical or nearly identical images; mirror images count as near.

    Candidates have equal files or difference hashes at most 7 bits apart; a near duplicate is
    confirmed by the correlation of the two 16×16 colour miniatures.

    Where the labels of a group differ, the one of most images is suggested, and of labels that are
    equally frequent the one that the model finds likelier; the suspect is the least believable
    image that is labelled otherwise. Where they are equal, none is suggested.

    Args:
        pictures: images of the index.
        labels: label name by sample id.
        believed: probability that the model gives to this label, by sample id.
        similarity: least correlation of a near-duplicate, in 0..1.

    Returns:
        one finding a group, the highest score first: groups with different labels, then exact
        ones, then by correlation.
    """
    pairs = list(matching_pairs(pictures, pictures, similarity))
    found = [
        _describe(sorted(members), pairs_of, pictures, labels, believed)
        for members, pairs_of in _groups(pairs)
    ]
    return sorted(found, key=lambda finding: (-finding.score, finding.subject))


def leaks(
    pictures: Pictures,
    other: Pictures,
    labels: dict[str, str],
    other_labels: dict[str, str],
    similarity: float,
    name: str,
) -> list[Finding]:
    """Find images that another index holds too, as in a validation image seen in training.

    Args:
        pictures: images of the index that is audited.
        other: images of the other index.
        labels: label name by sample id.
        other_labels: the same of the other index.
        similarity: least correlation of a near-duplicate, in 0..1.
        name: of the other index, as it is shown.
    """
    best: dict[int, Pair] = {}
    for mine, theirs, score in matching_pairs(pictures, other, similarity):
        if mine not in best or score > best[mine][2]:
            best[mine] = (mine, theirs, score)
    found = []
    for mine, theirs, score in best.values():
        sample, twin = pictures.ids[mine], other.ids[theirs]
        here, there = labels[sample], other_labels[twin]
        exact = pictures.digests[mine] == other.digests[theirs]
        what = "identical to" if exact else f"nearly identical ({score:.3f}) to"
        conflict = "" if here == there else f", labelled {here} here and {there} there"
        finding = Finding(
            kind=LEAKS,
            score=_score(score, exact, here != there),
            subject=sample,
            samples=(sample,),
            reason=f"{sample} is {what} {twin} in {name}{conflict}",
            evidence={
                "other": twin,
                "other_index": name,
                "exact": exact,
                "correlation": score,
                "labels": [here, there],
            },
        )
        found.append(finding)
    return sorted(found, key=lambda finding: (-finding.score, finding.subject))


def matching_pairs(left: Pictures, right: Pictures, similarity: float) -> Iterator[Pair]:
    """Yield (row of left, row of right, correlation) of duplicates; within one set, row < row.

    Equal files are linked in a chain rather than each with each, and only the first of them is
    compared with others, so that a thousand copies of one image stay a thousand pairs.
    """
    same = left is right
    first_left, first_right = _first_of_each(left), _first_of_each(right)
    yield from _exact(left, right, first_right)
    rows_left, rows_right = (np.array(list(f.values()), int) for f in (first_left, first_right))
    seen: set[tuple[int, int]] = set()
    for mirrored in (False, True):
        hashes = (right.mirrored if mirrored else right.hashes)[rows_right]
        for a, b in _candidates(left.hashes[rows_left], hashes):
            a, b = rows_left[a], rows_right[b]
            if same:
                a, b = np.minimum(a, b), np.maximum(a, b)
            pairs = np.unique(np.stack([a, b], 1), axis=0)
            scores = _correlation(
                left.miniatures[pairs[:, 0]], right.miniatures[pairs[:, 1]], mirrored
            )
            for row in np.flatnonzero(scores >= similarity):
                x, y = map(int, pairs[row])
                if left.digests[x] != right.digests[y] and (x, y) not in seen:
                    seen.add((x, y))
                    yield x, y, round(float(scores[row]), 4)


def _first_of_each(pictures: Pictures) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for row, digest in enumerate(pictures.digests):
        first.setdefault(digest, row)
    return first


def _exact(left: Pictures, right: Pictures, first: dict[bytes, int]) -> Iterator[Pair]:
    for row, digest in enumerate(left.digests):
        twin = first.get(digest)
        if twin is None:
            continue
        if left is not right:
            yield row, twin, 1.0
        elif twin < row:
            yield twin, row, 1.0


def _candidates(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield index arrays (a, b) of hashes at most `NEAR_BITS` apart, found by equal bytes."""
    for band in range(BANDS):
        shift = np.uint64(8 * band)
        mine, theirs = (((h >> shift) & np.uint64(255)).astype(np.uint8) for h in (left, right))
        order_a, order_b = np.argsort(mine, kind="stable"), np.argsort(theirs, kind="stable")
        cuts_a = np.searchsorted(mine[order_a], np.arange(257))
        cuts_b = np.searchsorted(theirs[order_b], np.arange(257))
        for value in range(256):
            bucket_a = order_a[cuts_a[value] : cuts_a[value + 1]]
            bucket_b = order_b[cuts_b[value] : cuts_b[value + 1]]
            for start in range(0, len(bucket_a), BLOCK):
                block = bucket_a[start : start + BLOCK]
                distance = np.bitwise_count(left[block][:, None] ^ right[bucket_b][None])
                a, b = np.nonzero(distance <= NEAR_BITS)
                if len(a):
                    yield block[a], bucket_b[b]


def _correlation(left: np.ndarray, right: np.ndarray, mirrored: bool) -> np.ndarray:
    """Return the correlation of miniatures [m, SIDE·SIDE·3], row by row; 0 for flat ones."""
    if mirrored:
        right = right.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(len(right), -1)
    a, b = left.astype(np.float32), right.astype(np.float32)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    deviation = np.sqrt((a**2).mean(1)), np.sqrt((b**2).mean(1))
    told = (deviation[0] > FLAT) & (deviation[1] > FLAT)
    return np.where(told, (a * b).mean(1) / np.maximum(deviation[0] * deviation[1], 1e-6), 0)


def _groups(pairs: list[Pair]) -> Iterator[tuple[set[int], list[Pair]]]:
    """Yield connected groups of rows with the pairs that connect them."""
    root: dict[int, int] = {}

    def find(row: int) -> int:
        while root.setdefault(row, row) != row:
            root[row] = row = root[root[row]]
        return row

    for a, b, _ in pairs:
        root[find(b)] = find(a)
    grouped: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        grouped[find(pair[0])].append(pair)
    for connected in grouped.values():
        yield {row for a, b, _ in connected for row in (a, b)}, connected


def _describe(
    rows: list[int],
    pairs: list[Pair],
    pictures: Pictures,
    labels: dict[str, str],
    believed: dict[str, float],
) -> Finding:
    ids = [pictures.ids[row] for row in rows]
    support = _support(ids, labels, believed)
    right = max(support, key=lambda name: support[name])
    conflict, two = len(support) > 1, len(ids) == 2
    if conflict:
        suspect = min((s for s in ids if labels[s] != right), key=lambda s: believed[s])
        ids = [suspect, *(sample for sample in ids if sample != suspect)]
    names = [labels[sample] for sample in ids]
    exact = len({pictures.digests[row] for row in rows}) == 1
    weakest = min(score for _, _, score in pairs)
    near = f"nearly identical (correlation {weakest:.3f}{'' if two else ' or more'})"
    what = "identical" if exact else near
    shown = " and ".join(ids) if two else f"{ids[0]} and {len(ids) - 1} more"
    same = f"{'both' if two else 'all'} labelled {names[0]}"
    labelled = f"but {_difference(names[0], right, support)}" if conflict else same
    return Finding(
        kind=DUPLICATES,
        score=_score(weakest, exact, conflict),
        subject=ids[0],
        samples=tuple(ids),
        reason=f"{shown} are {what}, {labelled}",
        evidence={"exact": exact, "correlation": weakest, "labels": names},
        label_name=names[0] if conflict else None,
        suggested_name=right if conflict else None,
    )


def _support(
    ids: list[str], labels: dict[str, str], believed: dict[str, float]
) -> dict[str, tuple[int, float]]:
    """Return each label of a group: images that have it, and what the model gives it on these."""
    chances: dict[str, list[float]] = defaultdict(list)
    for sample in ids:
        chances[labels[sample]].append(believed[sample])
    return {name: (len(given), fmean(given)) for name, given in chances.items()}


def _difference(given: str, right: str, support: dict[str, tuple[int, float]]) -> str:
    """Say how the labels of a group differ, and what speaks for the right one."""
    (count, p), (fewer, other_p) = support[right], support[given]
    total = sum(images for images, _ in support.values())
    reason = f"{count} of {total} are {right}"
    if count == fewer:
        reason = f"the model finds {right} likelier, {percent(p)} against {percent(other_p)}"
    return f"labelled {', '.join(sorted(support))}: {reason}"


def _score(correlation: float, exact: bool, conflict: bool) -> float:
    """Order duplicates: different labels first, then exact ones, then by correlation."""
    return 2.0 * conflict + 1.0 * exact + correlation
