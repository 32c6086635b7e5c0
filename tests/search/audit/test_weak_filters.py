"""Weak filters are named where failures differ from other samples, and not by chance."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact

from indexer.store import Store
from search.audit import AuditSettings, audit
from search.audit.significance import discoveries, more_often
from search.audit.weak_filters import FALSE_DISCOVERY, most_salient
from tests.support.arrays import index_of_arrays

SAMPLES, UNITS, SALIENT = 300, 500, 4
NAMES = ("cat", "dog", "ship")


def raw_profiles(random: np.random.Generator) -> np.ndarray:
    """Return profiles [n, F] as models give them.

    Filters are correlated, tails heavy, and the gradients of a sample all large or all small.
    """
    factors = random.normal(size=(SAMPLES, 12)) @ random.normal(0, 0.4, (12, UNITS))
    scale = random.standard_t(3, (SAMPLES, 1)) / 2
    noise = random.standard_t(4, (SAMPLES, UNITS)) / 3
    return np.exp(np.clip(factors + scale + noise, -12, 12)).astype(np.float32)


def an_index(path: Path, raw: np.ndarray, failures: int) -> Store:
    """Make an index of profiles, the first of which are failures."""
    random = np.random.default_rng(3)
    labels = np.arange(len(raw)) % len(NAMES)
    predicted = (labels + (np.arange(len(raw)) < failures)) % len(NAMES)
    logits = np.eye(len(NAMES))[predicted] * 4 + random.normal(0, 0.1, (len(raw), len(NAMES)))
    return index_of_arrays(path, raw=raw, logits=logits, labels=labels, names=NAMES)


@pytest.mark.parametrize("failures", [5, 10, 20, 30, 150])
def test_failures_drawn_at_random_hardly_ever_show_a_weak_filter(failures: int) -> None:
    random = np.random.default_rng(failures)
    raw = raw_profiles(random)
    z = np.abs((raw - raw.mean(0)) / raw.std(0))
    hit = np.zeros(z.shape, bool)
    np.put_along_axis(hit, most_salient(z, SALIENT), True, 1)
    named = 0
    for _ in range(200):
        drawn = np.zeros(SAMPLES, bool)
        drawn[random.choice(SAMPLES, failures, replace=False)] = True
        p = more_often(hit[drawn].sum(0), failures, hit[~drawn].sum(0), SAMPLES - failures)
        named += discoveries(p, FALSE_DISCOVERY).any()
    assert named / 200 <= FALSE_DISCOVERY


def test_the_test_is_fishers() -> None:
    hits, others = np.array([0, 3, 5, 10]), np.array([7, 3, 0, 60])
    found = more_often(hits, 10, others, 90)
    expected = [
        fisher_exact([[h, 10 - h], [o, 90 - o]], alternative="greater")[1]
        for h, o in zip(hits.tolist(), others.tolist(), strict=True)
    ]
    assert found == pytest.approx(expected)


def test_failures_whose_gradients_are_all_large_name_no_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.audit.weak_filters.SALIENT", 10 / UNITS)
    raw = raw_profiles(np.random.default_rng(1))
    raw[:20] *= 30
    report = audit(an_index(tmp_path / "db", raw, 20), AuditSettings(kinds=("filters",)))
    assert report.total("filters") == 0


def test_a_filter_behind_some_failures_is_named_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.audit.weak_filters.SALIENT", SALIENT / UNITS)
    raw = raw_profiles(np.random.default_rng(2))
    raw[:9, 123] = raw[:, 123].max() * 2
    store = an_index(tmp_path / "db", raw, 20)
    for others in (10_000, 100):  # all correct samples, or a part of them
        monkeypatch.setattr("search.audit.weak_filters.OTHERS", others)
        (found,) = audit(store, AuditSettings(kinds=("filters",))).findings
        assert found.subject == store.manifest.layout.name(123)
        assert found.evidence["failures"] >= 8
        assert found.evidence["share_of_correct"] < 0.05
        assert "of the correct samples" in found.reason
