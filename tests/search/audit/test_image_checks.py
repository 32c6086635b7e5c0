"""cleanvision's checks of the images, merged into the findings."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from indexer.errors import DataError, RejectedImageError, SettingError
from indexer.store import Store
from search.audit import AuditSettings, audit, read_findings
from search.results import Sample
from tests.search.audit.conftest import DARK, EXACT, NEAR, thumbnails

ODD = {
    "r330": ("dark", Image.new("RGB", (32, 32), (9, 9, 9))),
    "r331": ("light", Image.new("RGB", (32, 32), (255, 254, 255))),
    "r332": ("odd_aspect_ratio", Image.effect_noise((96, 16), 90).convert("RGB")),
    "r333": ("odd_size", Image.effect_noise((320, 320), 90).convert("RGB")),
    "r334": ("grayscale", Image.effect_noise((32, 32), 90)),
    "r335": ("low_information", Image.new("RGB", (32, 32), (120, 120, 120))),
}
TWINS = ("r340", "r341")
"""Two images with the same pixels, whose thumbnails differ."""


def photograph(seed: int, level: int = 128) -> Image.Image:
    """Return a sharp random picture in RGB."""
    pixels = np.random.default_rng(seed).normal(level, level / 2, (32, 32, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def originals(sample: Sample) -> bytes | Image.Image:
    """Return the image of a sample: thumbnails of known twins, odd ones, and noise."""
    row = int(sample.id[1:])
    if row in (*EXACT, *NEAR):
        return thumbnails()[row]
    if sample.id in ODD:
        return ODD[sample.id][1]
    if sample.id in TWINS:
        buffer = io.BytesIO()
        photograph(340).save(buffer, "PNG" if sample.id == TWINS[0] else "BMP")
        return buffer.getvalue()
    return photograph(row, level=25 if row in DARK else 128)


def test_every_issue_gets_a_reason_that_can_be_seen(store: Store) -> None:
    pytest.importorskip("cleanvision")
    report = audit(store, AuditSettings(kinds=("images",)), read_image=originals)
    seen = {(finding.evidence["issue"], finding.subject): finding for finding in report.findings}
    assert {(issue, sample) for sample, (issue, _) in ODD.items()} <= set(seen)
    for (issue, sample), finding in seen.items():
        if issue != "duplicates":
            assert finding.samples == (sample,)
            assert "; labelled " in finding.reason
            assert 0 <= finding.evidence["failure_rate"] <= 1
    middle = "320 × 320 pixels, where a middling image has 32 × 32"
    assert middle in seen["odd_size", "r333"].reason
    assert "96 × 16 pixels" in seen["odd_aspect_ratio", "r332"].reason
    assert read_findings(store).of("images") == report.findings
    few = audit(store, AuditSettings(kinds=("images",), top=2), read_image=originals)
    assert few.totals == report.totals == {"images": len(report)}
    assert read_findings(store).total("images") == len(report) > len(few) == 2


def test_what_the_audit_knows_is_not_repeated(store: Store) -> None:
    pytest.importorskip("cleanvision")
    audit(store, AuditSettings(kinds=("duplicates",)))
    report = audit(store, AuditSettings(kinds=("causes", "images")), read_image=originals)
    found = report.of("images")
    groups = [f.samples for f in found if f.evidence["issue"] == "duplicates"]
    assert groups == [TWINS]
    cause = next(f for f in report.of("causes") if f.evidence["property"] == "brightness")
    members = cause.evidence["cleanvision"]["samples"]
    assert len(members) > 30
    assert {int(sample[1:]) for sample in members} <= set(DARK)
    assert cause.reason.endswith(f"cleanvision flags {len(members)} of them as dark")
    assert not {f.subject for f in found if f.evidence["issue"] == "dark"} & set(members)


def test_what_holds_of_most_images_is_one_finding(store: Store) -> None:
    pytest.importorskip("cleanvision")
    settings = AuditSettings(kinds=("images",), top=3)
    first = audit(store, settings, read_image=originals).findings
    assert len({finding.evidence["issue"] for finding in first}) == 3, "the issues take turns"
    (gray,) = audit(
        store, settings, read_image=lambda sample: photograph(int(sample.id[1:])).convert("L")
    ).findings
    assert (gray.subject, gray.score, len(gray.samples)) == ("grayscale", 1.0, 5)
    assert gray.reason.startswith("all images are gray")


def test_a_missing_image_is_said_in_one_line(store: Store) -> None:
    pytest.importorskip("cleanvision")

    def gone(sample: Sample) -> bytes:
        raise RejectedImageError("no such file")

    with pytest.raises(DataError, match=r"image 'r0' can no longer be read \(no such file\)"):
        audit(store, AuditSettings(kinds=("images",)), read_image=gone)
    with pytest.raises(SettingError, match="original images"):
        audit(store, AuditSettings(kinds=("images",)))


def test_images_are_checked_up_to_the_limit_that_they_were_indexed_with(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cleanvision")
    monkeypatch.setattr("search.audit.image_checks.pixel_limit", lambda manifest: 1023)
    with pytest.raises(DataError, match="32 × 32 pixels, the limit is 1023"):
        audit(store, AuditSettings(kinds=("images",)), read_image=originals)


def test_a_missing_cleanvision_is_said_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanvision", None)
    with pytest.raises(SettingError, match=r"pip install 'failsearch\[audit\]'"):
        audit(store, AuditSettings(kinds=("images",)), read_image=originals)
