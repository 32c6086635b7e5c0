"""What cleanvision says of the images of an index, merged into the findings."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from indexer.decode import decode
from indexer.errors import DataError, RejectedImageError
from indexer.images import pixel_limit
from indexer.progress import Progress, Tracker, silent

from ..export import ReadImage
from ..listing import Listing, list_samples
from ..modes import read_modes
from ..results import Sample
from ..words import percent
from .imagelab import (
    BLURRY,
    DARK,
    GRAYSCALE,
    LIGHT,
    LOW_INFORMATION,
    ODD_ASPECT_RATIO,
    ODD_SIZE,
    PASSES,
    ImageIssues,
    check_images,
)
from .report import Finding
from .settings import CAUSES, DUPLICATES, IMAGES

if TYPE_CHECKING:
    from indexer.store import Store

COMMON = 0.5
"""Share of the images from which on an issue says something of the data set, not of an image; the
share from which on cleanvision's own report leaves an issue out."""
SHOWN = 5
GRAY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B")
SAME_CAUSE = {
    ("brightness", False): DARK,
    ("brightness", True): LIGHT,
    ("sharpness", False): BLURRY,
    ("contrast", False): LOW_INFORMATION,
    ("saturation", False): GRAYSCALE,
    ("pixels", False): ODD_SIZE,
    ("pixels", True): ODD_SIZE,
    ("aspect", False): ODD_ASPECT_RATIO,
    ("aspect", True): ODD_ASPECT_RATIO,
}
"""The check that goes with a cause of ours: a property (see `pictures`), and whether it is high."""
WORDS = {
    DARK: "dark",
    LIGHT: "light",
    BLURRY: "blurred",
    LOW_INFORMATION: "low in information",
    ODD_SIZE: "odd in size",
    ODD_ASPECT_RATIO: "odd in shape",
    GRAYSCALE: "gray",
}


def with_image_checks(
    store: "Store",
    findings: Sequence[Finding],
    read_image: ReadImage,
    top: int,
    *,
    earlier: Sequence[Finding] = (),
    progress: Progress = silent,
) -> tuple[list[Finding], int]:
    """Run cleanvision on the original images and merge what it finds into an audit's findings.

    A shared cause says how many of its mode's images cleanvision flags for the same property; those
    images are no findings of their own. Duplicates that the audit knows are not repeated. What is
    left becomes a finding of kind "images"; an issue of most images becomes a single one.

    Args:
        store: the index.
        findings: of the audit so far.
        read_image: gives the original image of a sample.
        top: findings of kind "images" at most, shared among the issues.
        earlier: stored findings of other kinds, whose duplicates are known as well.
        progress: shows how many images were looked at.

    Returns:
        all findings, and how many of kind "images" there are in all.

    Raises:
        SettingError: cleanvision or a package it needs is not installed.
        DataError: an image can no longer be read.
    """
    listing = list_samples(store, among="all", sort="id")
    if not len(listing):
        return list(findings), 0
    with progress("Checking images with cleanvision", PASSES * len(listing), 0) as tracker:
        originals = _Originals(listing, read_image, tracker, pixel_limit(store.manifest))
        issues = check_images(originals)
    samples = listing.samples
    merged, covered = _with_causes(store, findings, issues, samples)
    known = [set(f.samples) for f in (*findings, *earlier) if f.kind == DUPLICATES]
    groups = [
        *_properties(issues, samples, originals.sizes, covered),
        list(_duplicates(issues, samples, known)),
    ]
    ranked = [pair for group in groups for pair in zip(count(), group, strict=False)]
    ranked.sort(key=lambda pair: (pair[0], -pair[1].score))
    own = [finding for _, finding in ranked[:top]]
    return merged + sorted(own, key=lambda finding: -finding.score), len(ranked)


class _Originals(Sequence[Image.Image]):
    """The images of a listing, read when they are asked for: gray ones gray, others in RGB."""

    def __init__(
        self, listing: Listing, read_image: ReadImage, tracker: Tracker, max_pixels: int
    ) -> None:
        self._samples, self._read, self._tracker = listing.samples, read_image, tracker
        self._max_pixels = max_pixels
        self.sizes = [(0, 0)] * len(listing)
        """Width and height of each image, once it was read."""

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, row: Any) -> Any:
        sample = self._samples[row]
        try:
            data = self._read(sample)
            image = decode(data, max_pixels=self._max_pixels)
        except RejectedImageError as error:
            raise DataError(
                f"image {sample.id!r} can no longer be read ({error}): restore it, or audit "
                f"without the kind {IMAGES}"
            ) from error
        self.sizes[row] = image.size
        self._tracker.advance(1)
        return image.convert("L") if _mode(data) in GRAY_MODES else image


def _mode(data: "bytes | Image.Image") -> str:
    if isinstance(data, Image.Image):
        return data.mode
    with Image.open(io.BytesIO(data)) as header:
        return header.mode


def _with_causes(
    store: "Store", findings: Sequence[Finding], issues: ImageIssues, samples: Sequence[Sample]
) -> tuple[list[Finding], set[tuple[str, str]]]:
    """Return the findings with causes commented on, and (check, sample id) of what they cover."""
    merged, covered = list(findings), set()
    for place, finding in enumerate(findings):
        if finding.kind != CAUSES:
            continue
        check = SAME_CAUSE.get((finding.evidence["property"], finding.evidence["effect"] > 0))
        if check is None or issues.flagged[check].mean() > COMMON:
            continue
        members = set(read_modes(store).mode(finding.subject).samples)
        flagged = {samples[row].id for row in np.flatnonzero(issues.flagged[check]).tolist()}
        both = sorted(members & flagged)
        if both:
            covered |= {(check, sample) for sample in both}
            evidence = {"check": check, "samples": both}
            merged[place] = replace(
                finding,
                reason=f"{finding.reason}; cleanvision flags {len(both)} of them as {WORDS[check]}",
                evidence=finding.evidence | {"cleanvision": evidence},
            )
    return merged, covered


def _properties(
    issues: ImageIssues,
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    covered: set[tuple[str, str]],
) -> Iterator[list[Finding]]:
    """Yield the findings of each check, worst first."""
    wrong = np.array([not sample.correct for sample in samples])
    middle = median_low((width * height, (width, height)) for width, height in sizes)[1]
    for name, flagged in issues.flagged.items():
        scores = issues.scores[name]
        rows = sorted(np.flatnonzero(flagged).tolist(), key=lambda row: scores[row])
        if not rows:
            continue
        evidence = {"issue": name, "images": len(rows), **_failure_rates(wrong, flagged)}
        if len(rows) > COMMON * len(samples):
            yield [_common(name, [samples[row] for row in rows], len(samples), evidence)]
            continue
        found = []
        for row in rows:
            sample, score = samples[row], float(scores[row])
            if (name, sample.id) not in covered:
                finding = Finding(
                    kind=IMAGES,
                    score=1 - score,
                    subject=sample.id,
                    samples=(sample.id,),
                    reason=f"{_seen(name, score, sizes[row], middle)}; {_told(sample)}",
                    evidence=evidence | {"cleanvision_score": score},
                )
                found.append(finding)
        yield found


def _failure_rates(wrong: np.ndarray, flagged: np.ndarray) -> dict[str, float | None]:
    """Return the share of failures among the flagged images and among the others."""
    shares = {"failure_rate": wrong[flagged], "failure_rate_of_others": wrong[~flagged]}
    return {name: float(rows.mean()) if len(rows) else None for name, rows in shares.items()}


def _common(name: str, found: Sequence[Sample], total: int, evidence: dict) -> Finding:
    share = f"{len(found):,} of the {total:,} images" if len(found) < total else "all images"
    return Finding(
        kind=IMAGES,
        score=len(found) / total,
        subject=name,
        samples=tuple(sample.id for sample in found[:SHOWN]),
        reason=f"{share} are {WORDS[name]} to cleanvision, which says something of the data set "
        "rather than of any image",
        evidence=evidence,
    )


def _seen(name: str, score: float, size: tuple[int, int], middle: tuple[int, int]) -> str:
    """Say what is to be seen; the scores are cleanvision 0.3's."""
    shape = f"{size[0]} × {size[1]} pixels"
    return {
        DARK: f"dark: 99 % of its pixels reach at most {percent(score)} of white",
        LIGHT: f"light: 95 % of its pixels reach at least {percent(1 - score)} of white",
        BLURRY: f"blurred: hardly an edge in it (score {score:.2f} of 1)",
        LOW_INFORMATION: f"little to see: nearly all of it is alike (score {score:.2f} of 1)",
        ODD_SIZE: f"odd size: {shape}, where a middling image has {middle[0]} × {middle[1]}",
        ODD_ASPECT_RATIO: f"odd shape: {shape}",
        GRAYSCALE: "gray: it is stored without colours, unlike most images",
    }[name]


def _told(sample: Sample) -> str:
    model = "agrees" if sample.correct else f"takes it for {sample.prediction_name}"
    return f"labelled {sample.label_name}, and the model {model}"


def _duplicates(
    issues: ImageIssues, samples: Sequence[Sample], known: list[set[str]]
) -> Iterator[Finding]:
    """Yield the groups that are in no known one; the largest score is of the smallest group."""
    # Images that show next to nothing all have the same perceptual hash.
    empty = set(np.flatnonzero(issues.flagged[LOW_INFORMATION]).tolist())
    near = [told for group in issues.near if len(told := [r for r in group if r not in empty]) > 1]
    for what, groups in (("identical to", issues.exact), ("nearly identical to", near)):
        for group in groups:
            found = [samples[row] for row in group]
            ids = tuple(sample.id for sample in found)
            if any(members.issuperset(ids) for members in known):
                continue
            known.append(set(ids))
            names = sorted({sample.label_name for sample in found})
            labelled = f"all labelled {names[0]}" if len(names) == 1 else f"but {', '.join(names)}"
            others = ids[1] if len(ids) == 2 else f"{len(ids) - 1} others"
            yield Finding(
                kind=IMAGES,
                score=1 / len(ids),
                subject=ids[0],
                samples=ids,
                reason=f"{what} {others} by cleanvision's hash, {labelled}",
                evidence={"issue": "duplicates", "labels": [s.label_name for s in found]},
            )
